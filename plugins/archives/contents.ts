import type { Entry, OpenFile } from '../../backends/backend.ts'
import { SourceChanged } from '../../backends/errors.ts'
import type { VfolderFiles } from '../vfolder-files.ts'
import type { Member } from './members.ts'

/** A file up to this size is read as a whole before it is packed. */
export const smallFileBytes = 64 * 1024

// How far reading goes ahead of packing: a file is mostly waiting for a thread. Large ones hold buffers that downloads
// share, small ones memory of their own.
const smallFilesAhead = 16
const smallBytesAhead = 256 * 1024
const largeFilesAhead = 8

/** A member with its bytes. */
export interface Loaded extends Member {
  /** All of a small file, or a large one in chunks; a symlink's is its target, a directory's is empty. */
  content: Buffer | AsyncIterable<Buffer>
}

/** @throws {SourceChanged} when a file is not, or does not remain, what was listed */
export async function* loadContents(
  files: VfolderFiles,
  members: AsyncIterable<Member>,
  signal: AbortSignal,
): AsyncGenerator<Loaded> {
  const queue: { loading: Promise<Loading>; weight: number }[] = []
  let weight = 0
  async function* next(): AsyncGenerator<Loaded> {
    const first = queue.shift()
    if (first === undefined) return
    weight -= first.weight
    const { member, content, close } = await first.loading
    try {
      yield { ...member, content }
    } finally {
      await close()
    }
  }

  try {
    for await (const member of members) {
      const loading = load(files, member, signal)
      loading.catch(() => {}) // Awaited in its turn; a failure must not count as unhandled until then.
      queue.push({ loading, weight: weightOf(member.entry) })
      weight += weightOf(member.entry)
      while (weight > 1) yield* next()
    }
    while (queue.length > 0) yield* next()
  } finally {
    await Promise.allSettled(queue.map(async ({ loading }) => (await loading).close()))
  }
}

/** Which part of what may be read ahead an entry takes. */
function weightOf(entry: Entry): number {
  return isSmall(entry) ? Math.max(1 / smallFilesAhead, entry.size / smallBytesAhead) : 1 / largeFilesAhead
}

/** Whether the whole content is at hand before it is packed. */
export function isSmall({ type, size }: Entry): boolean {
  return type !== 'file' || size <= smallFileBytes
}

interface Loading {
  member: Member
  content: Loaded['content']
  close(): Promise<unknown>
}

async function load(files: VfolderFiles, member: Member, signal: AbortSignal): Promise<Loading> {
  const { entry } = member
  if (!isSmall(entry)) return { member, ...begin(readLarge(files, entry, signal)) }
  return { member, content: await readSmall(files, entry, signal), close: async () => {} }
}

/** Has the first chunk read before it is asked for. */
function begin(chunks: AsyncGenerator<Buffer>): Omit<Loading, 'member'> {
  const first = chunks.next()
  first.catch(() => {}) // As above.
  async function* content(): AsyncGenerator<Buffer> {
    const { value, done } = await first
    if (done) return
    yield value
    yield* chunks
  }
  return { content: content(), close: () => chunks.return(undefined) }
}

async function readSmall(files: VfolderFiles, entry: Entry, signal: AbortSignal): Promise<Buffer> {
  if (entry.type === 'directory') return Buffer.alloc(0)
  if (entry.type === 'symlink') return Buffer.from(entry.target ?? '')
  const file = await openUnchanged(files, entry, signal)
  try {
    const parts: Buffer[] = []
    for await (const chunk of file.chunks({ start: 0, end: entry.size })) {
      // Of several chunks each is only valid until the next.
      parts.push(chunk.length === entry.size ? chunk : Buffer.from(chunk))
    }
    const [only = Buffer.alloc(0)] = parts
    return parts.length > 1 ? Buffer.concat(parts) : only
  } finally {
    file.close()
  }
}

/** What is read at once is as it was at one moment; what is read in parts must be the same file after the last one. */
async function* readLarge(files: VfolderFiles, entry: Entry, signal: AbortSignal): AsyncGenerator<Buffer> {
  const file = await openUnchanged(files, entry, signal)
  try {
    let read = 0
    for await (const chunk of file.chunks({ start: 0, end: entry.size })) {
      read += chunk.length
      const lastOfSeveral = read === entry.size && chunk.length < entry.size
      if (lastOfSeveral) assertSame(entry, await files.stat(entry.path, signal))
      yield chunk
    }
  } finally {
    file.close()
  }
}

async function openUnchanged(files: VfolderFiles, entry: Entry, signal: AbortSignal): Promise<OpenFile> {
  const file = await files.read(entry.path, signal)
  try {
    assertSame(entry, file.entry)
    return file
  } catch (error) {
    file.close()
    throw error
  }
}

function assertSame(listed: Entry, now: Entry): void {
  const same =
    listed.type === now.type &&
    listed.size === now.size &&
    listed.modifiedAt.getTime() === now.modifiedAt.getTime() &&
    listed.etag === now.etag
  if (!same) throw new SourceChanged(`${listed.path} changed while it was packed`)
}
