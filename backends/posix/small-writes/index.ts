import { extname } from 'node:path'
import { growthOf } from '../../amount.ts'
import type { WriteOptions, Written } from '../../backend.ts'
import { Unconfirmed } from '../../errors.ts'
import { createThreadPools, type Thread, type ThreadPool } from '../../thread-pool.ts'
import { toStoredEntry } from '../entry.ts'
import type { Place } from '../layout.ts'
import { callsOf } from '../mount/calls.ts'
import { stagingOf } from '../places.ts'
import type { Appeared, FromThread, SmallWrite, ToThread } from './messages.ts'

// To store a small file takes a dozen system calls, and each trip to a thread costs more than most of them. So one trip
// does all of them, for all files that wait by then.

/** Larger ones take the usual way: there the bytes are most of the work. */
export const smallWriteBytes = 64 * 1024

/** Flushes at once share a commit of the filesystem's journal. */
const tripsAtOnce = 4
const mostFilesPerTrip = 16

const threadsFor = createThreadPools<ToThread, FromThread>(
  new URL(`./worker${extname(import.meta.url)}`, import.meta.url),
  { usual: 16, most: 16 },
  { usual: tripsAtOnce, most: tripsAtOnce },
)

type SmallWriteOptions = Pick<WriteOptions, 'ifAbsent' | 'mode' | 'signal' | 'onAppeared'>

/** Undefined where nothing was done; `failure` says why it is not known to be durable. */
type Outcome = { failure: string | undefined } | undefined

interface Asked {
  file: SmallWrite
  content: Buffer
  signal: AbortSignal
  appeared(file: Appeared): void
  answer(outcome: Outcome): void
}

/**
 * Stores small files of one volume, and gives undefined where nothing was done: the usual way then does it, or tells
 * why not. A volume that hangs keeps only so many threads.
 */
export function createSmallFileWriter(): (
  place: Place,
  content: Buffer,
  options: SmallWriteOptions,
) => Promise<Written | undefined> {
  const asked: Asked[] = []
  let trips = 0
  let starting = false

  const start = () => {
    starting = false
    answerGivenUp(asked)
    while (asked.length > 0 && trips < tripsAtOnce) {
      const files = asked.splice(0, Math.min(mostFilesPerTrip, Math.ceil(asked.length / (tripsAtOnce - trips))))
      const threads = threadsFor(callsOf(files[0]?.file.staging ?? ''))
      const thread = threads.acquireNow()
      if (thread === undefined) {
        for (const { answer } of files) answer(undefined)
        continue
      }
      trips++
      travel(threads, thread, files).finally(() => {
        trips--
        start()
      })
    }
  }

  const ask = (file: SmallWrite, content: Buffer, signal: AbortSignal, appeared: Asked['appeared']) =>
    new Promise<Outcome>((answer) => {
      asked.push({ file, content, signal, appeared, answer })
      if (!starting) setImmediate(start)
      starting = true
    })

  return async (place, content, { signal, ifAbsent = false, mode, onAppeared }) => {
    const { layout, ownership, root, names } = place
    const { uid, gid, fileMode } = ownership
    const staging = layout.newStaging(stagingOf(root))
    const modes = { mode: mode ?? fileMode, hasMode: mode !== undefined }
    const file = { root, names, staging, size: content.length, ...modes, uid, gid, ifAbsent }
    const path = names.join('/')
    let written: Written | undefined
    const appeared = ({ attributes, replaced }: Appeared) => {
      const entry = toStoredEntry(path, attributes)
      written = { entry, ...(replaced?.files === 1 && { replaced: replaced.bytes }) }
      onAppeared?.(written)
    }
    const outcome = await layout.inTurn([place], { signal }, () => ask(file, content, signal, appeared))
    if (outcome === undefined || written === undefined) return undefined
    if (outcome.failure === undefined) return written
    throw new Unconfirmed(path, growthOf(written), { cause: new Error(outcome.failure) })
  }
}

/** What nobody waits for any more is not stored once a mount that hung answers again. */
function answerGivenUp(asked: Asked[]): void {
  for (const one of asked.splice(0)) {
    if (one.signal.aborted) one.answer(undefined)
    else asked.push(one)
  }
}

/** A thread that ends leaves its files undone, or stored: the usual way stores them once more. */
async function travel(
  threads: ThreadPool<ToThread, FromThread>,
  thread: Thread<ToThread, FromThread>,
  asked: Asked[],
): Promise<void> {
  const content = new Uint8Array(asked.reduce((sum, { content }) => sum + content.length, 0))
  let filled = 0
  for (const one of asked) {
    content.set(one.content, filled)
    filled += one.content.length
  }
  const { promise, resolve } = Promise.withResolvers<Outcome[]>()
  let files: (Appeared | undefined)[] = []
  thread.take({
    message: (answer) => {
      if (answer.kind === 'appeared') {
        files = answer.files
        for (const [index, file] of files.entries()) if (file !== undefined) asked[index]?.appeared(file)
        return
      }
      threads.release(thread)
      resolve(files.map((file, index) => file && { failure: answer.failures[index] }))
    },
    ended: () => resolve([]),
  })
  thread.send({ files: asked.map(({ file }) => file), content: content.buffer }, [content.buffer])
  const outcomes = await promise
  for (const [index, { answer }] of asked.entries()) answer(outcomes[index])
}
