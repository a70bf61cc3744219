import { extname } from 'node:path'
import type { Call, Entry, WholeFiles } from '../../backend.ts'
import { createThreadPools } from '../../thread-pool.ts'
import { attributes, attributesAt } from '../attributes.ts'
import type { Attributes } from '../entry.ts'
import { toError } from '../failure.ts'
import { callsOf, type MountCalls } from '../mount/calls.ts'
import type { FromThread, ToThread } from './messages.ts'

// A system call for a small file costs less than a trip to a thread, so one trip does many of them.

const threadsFor = createThreadPools<ToThread, FromThread>(
  new URL(`./worker${extname(import.meta.url)}`, import.meta.url),
  { usual: 1, most: 16 },
  { usual: 1, most: 4 },
)

export async function readMany(root: string, entries: Entry[], { signal }: Call): Promise<WholeFiles> {
  const files = entries.map(({ path, size, etag }) => ({ path, size, etag }))
  const bytes = await ask(callsOf(root), { kind: 'read', root, files }, signal)
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

export interface SmallFile {
  attributes: Attributes
  content: Buffer
}

/** Gives undefined for all but small files that are reached without a symlink, and for all when no thread is free. */
export async function readSmallTogether(locations: string[]): Promise<(SmallFile | undefined)[]> {
  const threads = threadsFor(callsOf(locations[0] ?? ''))
  const thread = threads.acquireNow()
  if (thread === undefined) return []
  const answer = await threads.ask(thread, { kind: 'small', locations }).catch(() => undefined)
  if (answer?.kind !== 'done') return []
  const numbers = new Float64Array(answer.result, 0, locations.length * attributes.length)
  let start = numbers.byteLength
  return locations.map((_, index) => {
    const found = attributesAt(numbers, index)
    if (found === undefined) return undefined
    const content = Buffer.from(answer.result, start, found.size)
    start += found.size
    return { attributes: found, content }
  })
}

async function ask(mount: MountCalls | undefined, question: ToThread, signal: AbortSignal): Promise<ArrayBuffer> {
  signal.throwIfAborted()
  const threads = threadsFor(mount)
  const answer = await threads.ask(await threads.acquire(signal), question)
  signal.throwIfAborted()
  if (answer.kind === 'failed') throw toError(answer.failure)
  return answer.result
}
