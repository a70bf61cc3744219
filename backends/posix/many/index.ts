import { extname } from 'node:path'
import type { Call, Entry, WholeFiles } from '../../backend.ts'
import type { Attributes } from '../entry.ts'
import { thrown } from '../failure.ts'
import { ThreadPool } from '../thread-pool.ts'
import { attributes, type FromThread, type ToThread } from './messages.ts'

// Each of the system calls for a small file costs less than a trip to a thread; so one trip is for many of them.

const threads = new ThreadPool<ToThread, FromThread>(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
  usual: 2,
  most: 16,
})

export async function readMany(root: string, entries: Entry[], { signal }: Call): Promise<WholeFiles> {
  const files = entries.map(({ path, size, etag }) => ({ path, size, etag }))
  const bytes = await ask({ kind: 'read', root, files }, signal)
  let start = 0
  const contents = files.map(({ size }) => {
    const content = Buffer.from(bytes, start, size)
    start += size
    return content
  })
  // Not left to the garbage collector, which would come after many more of them.
  const close = () => {
    if (!bytes.detached) bytes.transfer(0)
  }
  return { contents, close }
}

/** Looks at entries of an open directory, which stays open meanwhile; undefined for one that is gone. */
export async function lstatMany(fd: number, names: string[], { signal }: Call): Promise<(Attributes | undefined)[]> {
  const result = await ask({ kind: 'lstat', fd, names }, signal)
  const numbers = new Float64Array(result)
  const looked = names.map((_, index) => {
    const [mode = 0, size = 0, ino = 0, mtimeMs = 0, ctimeMs = 0] = numbers.subarray(index * attributes.length)
    return mode === 0 ? undefined : { mode, size, ino, mtimeMs, ctimeMs }
  })
  result.transfer(0)
  return looked
}

async function ask(question: ToThread, signal: AbortSignal): Promise<ArrayBuffer> {
  signal.throwIfAborted()
  const thread = await threads.acquire(signal)
  const { promise, resolve, reject } = Promise.withResolvers<FromThread>()
  thread.take({
    message: (answer) => {
      threads.release(thread)
      resolve(answer)
    },
    ended: reject,
  })
  thread.send(question)
  const answer = await promise
  signal.throwIfAborted()
  if (answer.kind === 'failed') throw thrown(answer.failure)
  return answer.result
}
