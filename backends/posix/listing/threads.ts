import { extname } from 'node:path'
import type { Call } from '../../backend.ts'
import { createThreadPools } from '../../thread-pool.ts'
import { toError } from '../failure.ts'
import { callsOf } from '../mount/calls.ts'
import type { FromThread, ToThread } from './messages.ts'
import type { Run } from './runs.ts'
import type { Wanted } from './selection.ts'

const threadsFor = createThreadPools<ToThread, FromThread>(
  new URL(`./worker${extname(import.meta.url)}`, import.meta.url),
  { usual: 2, most: 16 },
  { usual: 2, most: 4 },
)

/** The wanted names of an open directory that come first, and whether they are all. */
export async function selectNames(
  fd: number,
  wanted: Wanted,
  { signal }: Call,
): Promise<{ run: Run; isComplete: boolean }> {
  const stopped = new Int32Array(new SharedArrayBuffer(4))
  const stop = () => Atomics.store(stopped, 0, 1)
  signal.addEventListener('abort', stop)
  try {
    const answer = await ask({ kind: 'names', fd, wanted, stopped }, signal)
    if (answer.kind !== 'names') throw new Error('a thread answered what it was not asked')
    return { run: { bytes: Buffer.from(answer.bytes), count: answer.count }, isComplete: answer.isComplete }
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Looks at entries of an open directory, by their order keys with a NUL between two, and gives the `attributes` of all. */
export async function lstatMany(fd: number, keys: string, { signal }: Call): Promise<Float64Array> {
  const answer = await ask({ kind: 'lstat', fd, keys }, signal)
  if (answer.kind !== 'lstat') throw new Error('a thread answered what it was not asked')
  return new Float64Array(answer.attributes)
}

async function ask(question: ToThread, signal: AbortSignal): Promise<FromThread> {
  signal.throwIfAborted()
  const threads = threadsFor(callsOf(question.fd))
  const thread = await threads.acquire(signal)
  const answer = await threads.ask(thread, question)
  signal.throwIfAborted()
  if (answer.kind === 'failed') throw toError(answer.failure)
  return answer
}
