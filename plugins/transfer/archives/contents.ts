import { workAhead } from '../../../backends/ahead.ts'
import type { Entry, OpenFile, WholeFiles } from '../../../backends/backend.ts'
import { SourceChanged } from '../../../backends/errors.ts'
import { parsePath } from '../../../backends/path.ts'
import type { VfolderFiles } from '../../vfolders/files.ts'
import type { Member } from './members.ts'

/** A file up to this size is read as a whole before it is packed. */
export const smallFileBytes = 128 * 1024

// How far reading goes ahead of packing: reading a file is mostly waiting for its storage. Large files hold buffers
// that downloads share, small ones have memory of their own.
const smallFilesAhead = 16
const smallBytesAhead = 512 * 1024
const largeFilesAhead = 8

/** How much is read together where the storage can do that, and how many such groups are read ahead. */
const groupMembers = 128
const groupBytes = 512 * 1024
const groupsAhead = 2

/** A member with its bytes. */
export interface Loaded extends Member {
  /** A small file as a whole, a large one in chunks; the target of a symlink; nothing for a directory. */
  content: Buffer | AsyncIterable<Buffer>
}

/**
 * Loads content by content; each is valid until the next one is asked for.
 * @throws {SourceChanged} when a file is not what was listed, or changes while it is read
 */
export async function* loadContents(
  files: VfolderFiles,
  members: AsyncIterable<Member>,
  signal: AbortSignal,
): AsyncGenerator<Loaded> {
  const groups = workAhead(
    groupsOf(files, members),
    { ahead: 1, weigh: ({ weight }) => weight, drop: ({ close }: Loading) => close(), signal },
    (group, call) => load(files, group.members, call.signal),
  )
  for await (const { result } of groups) {
    try {
      for (const member of result.loaded) yield member
    } finally {
      await result.close()
    }
  }
}

/** Whether the whole content is at hand before it is packed. */
export function isSmall({ type, size }: Entry): boolean {
  return type !== 'file' || size <= smallFileBytes
}

interface Group {
  members: Member[]
  /** Its share of all that may be read ahead. */
  weight: number
}

/** Members that are read together, in their order: small ones as far as the storage can, a large one alone. */
async function* groupsOf(files: VfolderFiles, members: AsyncIterable<Member>): AsyncGenerator<Group> {
  let group: Member[] = []
  let bytes = 0
  const takeGroup = (): Group => {
    const fullness = Math.max(group.length / groupMembers, bytes / groupBytes)
    const whole = { members: group, weight: Math.max(fullness, 1 / smallFilesAhead) / groupsAhead }
    group = []
    bytes = 0
    return whole
  }
  for await (const member of members) {
    const { type, size } = member.entry
    if (files.readMany === undefined || !isSmall(member.entry)) {
      if (group.length > 0) yield takeGroup()
      yield { members: [member], weight: weightOf(member.entry) }
      continue
    }
    const memberBytes = type === 'file' ? size : 0
    if (group.length === groupMembers || bytes + memberBytes > groupBytes) yield takeGroup()
    group.push(member)
    bytes += memberBytes
  }
  if (group.length > 0) yield takeGroup()
}

function weightOf(entry: Entry): number {
  return isSmall(entry) ? Math.max(1 / smallFilesAhead, entry.size / smallBytesAhead) : 1 / largeFilesAhead
}

interface Loading {
  loaded: Loaded[]
  close(): unknown
}

async function load(files: VfolderFiles, members: Member[], signal: AbortSignal): Promise<Loading> {
  const [first] = members
  if (first !== undefined && !isSmall(first.entry)) {
    const { content, close } = begin(readLarge(files, first.entry, signal))
    return { loaded: [{ ...first, content }], close }
  }
  const listed = members.map(({ entry }) => entry).filter(({ type }) => type === 'file')
  const { contents, close } = await readSmall(files, listed, signal)
  const content = (entry: Entry) => (entry.type === 'file' ? contents.shift() : undefined) ?? contentOfNoFile(entry)
  return { loaded: members.map((member) => ({ ...member, content: content(member.entry) })), close }
}

/** Begins to read the first chunk before it is asked for. */
function begin(chunks: AsyncGenerator<Buffer>): { content: AsyncGenerator<Buffer>; close(): Promise<unknown> } {
  const first = chunks.next()
  first.catch(() => {}) // Awaited in its turn; a failure must not count as unhandled until then.
  async function* content(): AsyncGenerator<Buffer> {
    const { value, done } = await first
    if (done) return
    yield value
    yield* chunks
  }
  return { content: content(), close: () => chunks.return(undefined) }
}

function contentOfNoFile({ target = '' }: Entry): Buffer {
  return Buffer.from(target)
}

async function readSmall(files: VfolderFiles, listed: Entry[], signal: AbortSignal): Promise<WholeFiles> {
  if (files.readMany !== undefined && listed.length > 0) return files.readMany(listed, signal)
  const contents: Buffer[] = []
  for (const entry of listed) contents.push(await readWhole(files, entry, signal))
  return { contents, close: () => {} }
}

async function readWhole(files: VfolderFiles, entry: Entry, signal: AbortSignal): Promise<Buffer> {
  const file = await openUnchanged(files, entry, signal)
  try {
    const whole = Buffer.allocUnsafe(entry.size)
    let filled = 0
    for await (const chunk of file.chunks({ start: 0, end: entry.size })) filled += chunk.copy(whole, filled)
    return whole.subarray(0, filled)
  } finally {
    file.close()
  }
}

/**
 * A file that is read at once is as it was at one moment; one that is read in parts must be unchanged after the last.
 */
async function* readLarge(files: VfolderFiles, entry: Entry, signal: AbortSignal): AsyncGenerator<Buffer> {
  const file = await openUnchanged(files, entry, signal)
  try {
    let read = 0
    for await (const chunk of file.chunks({ start: 0, end: entry.size })) {
      read += chunk.length
      const lastOfSeveral = read === entry.size && chunk.length < entry.size
      if (lastOfSeveral) assertSame(entry, await files.stat(parsePath(entry.path), signal))
      yield chunk
    }
  } finally {
    file.close()
  }
}

async function openUnchanged(files: VfolderFiles, entry: Entry, signal: AbortSignal): Promise<OpenFile> {
  const file = await files.read(parsePath(entry.path), signal)
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
