import type { Metadata } from 'opendal'
import {
  type Amount,
  compareBytes,
  type Entry,
  type ListOptions,
  NotADirectory,
  NotFound,
  orderKey,
} from 'storage-proxy/backend'
import { ifPresent, kindOf, translated } from './errors.ts'
import { ancestors, directoryKey, fileKey, fromKeyName } from './keys.ts'
import type { Store } from './store.ts'

/** Requests under way at once for one listing, where the service's own does not tell sizes. */
const statsAtOnce = 16

export async function findEntry(store: Store, folder: string, path: string): Promise<Entry | undefined> {
  const { operator } = store
  return translated(path, async () => {
    const [file, marker] = await Promise.all([
      ifPresent(operator.stat(fileKey(folder, path))),
      ifPresent(operator.stat(directoryKey(folder, path))),
    ])
    const found = file ?? marker
    if (found !== undefined) return toEntry(path, found)
    // Who writes to the storage itself makes no markers.
    const inside = await ifPresent(operator.list(directoryKey(folder, path)))
    return inside?.length ? directory(path, null) : undefined
  })
}

export async function getEntry(store: Store, folder: string, path: string): Promise<Entry> {
  const entry = await findEntry(store, folder, path)
  if (entry === undefined) throw new NotFound(`${path} does not exist`)
  return entry
}

export function toEntry(path: string, metadata: Metadata): Entry {
  if (metadata.isDirectory()) return directory(path, metadata.lastModified)
  const etag = strongEtag(metadata.etag)
  return {
    path,
    type: 'file',
    size: Number(metadata.contentLength ?? 0),
    modifiedAt: new Date(metadata.lastModified ?? 0),
    ...(etag !== undefined && { etag }),
  }
}

function directory(path: string, modified: string | null): Entry {
  return { path, type: 'directory', size: 0, modifiedAt: new Date(modified ?? 0) }
}

/** A weak one does not say that the bytes are the same. */
function strongEtag(etag: string | null): string | undefined {
  return etag === null || etag.startsWith('W/') ? undefined : etag.replaceAll('"', '')
}

/** Makes the directories that lead to an entry. @throws {NotADirectory} when one of them is a file */
export async function makeParents(store: Store, folder: string, path: string): Promise<void> {
  const missing: string[] = []
  for (const ancestor of ancestors(path)) {
    const found = await translated(ancestor, () => ifPresent(store.operator.stat(directoryKey(folder, ancestor))))
    if (found !== undefined) break
    // A store of objects would keep both, the file and what is below it.
    const file = await translated(ancestor, () => ifPresent(store.operator.stat(fileKey(folder, ancestor))))
    if (file?.isFile()) throw new NotADirectory(`${ancestor} is not a directory`)
    missing.unshift(ancestor)
  }
  for (const ancestor of missing) await makeDirectory(store, folder, ancestor)
}

export async function makeDirectory(store: Store, folder: string, path: string): Promise<void> {
  await translated(path, async () => {
    try {
      await store.operator.createDir(directoryKey(folder, path))
    } catch (error) {
      // What fs says of a file on the way.
      if (kindOf(error) !== 'AlreadyExists') throw error
      throw new NotADirectory(`${path} leads through a file`, { cause: error })
    }
  })
}

/** What the service asks for, and what this backend asks itself, by paths that it has put together. */
type Listing = Omit<ListOptions, 'path'> & { path?: string | undefined }

/** Lists level by level, since the service's own order is not that of the contract. One level is in memory at once. */
export async function* listEntries(store: Store, folder: string, options: Listing): AsyncGenerator<Entry> {
  const { path, after, recursive, signal } = options
  signal.throwIfAborted()
  if (path !== undefined && (await getEntry(store, folder, path)).type !== 'directory') {
    throw new NotADirectory(`${path} is not a directory`)
  }
  const levels = [listLevel(store, folder, path, options)]
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const { value: entry, done } = await level.next()
    signal.throwIfAborted()
    if (done) {
      levels.pop()
      continue
    }
    if (after === undefined || compareBytes(orderKey(entry), after) > 0) yield entry
    if (recursive && entry.type === 'directory') levels.push(listLevel(store, folder, entry.path, options))
  }
}

async function* listLevel(
  store: Store,
  folder: string,
  path: string | undefined,
  { after }: Listing,
): AsyncGenerator<Entry> {
  const prefix = directoryKey(folder, path)
  const listed = await translated(
    path ?? 'the vfolder',
    async () => (await ifPresent(store.operator.list(prefix))) ?? [],
  )
  const entries = listed
    .filter((entry) => entry.path().startsWith(prefix) && entry.path() !== prefix)
    .map((entry) => {
      const name = fromKeyName(entry.path().slice(prefix.length).replace(/\/$/, ''))
      return toEntry(path === undefined ? name : `${path}/${name}`, entry.metadata())
    })
    // What comes before is left out, but for the directories that what comes after is in.
    .filter((entry) => {
      const key = orderKey(entry)
      return after === undefined || compareBytes(key, after) > 0 || after.startsWith(key)
    })
    .sort((a, b) => compareBytes(orderKey(a), orderKey(b)))

  for (let start = 0; start < entries.length; start += statsAtOnce) {
    const window = entries.slice(start, start + statsAtOnce)
    const told = await Promise.all(
      window.map((entry) => (isTold(entry) ? entry : findEntry(store, folder, entry.path))),
    )
    for (const [index, entry] of told.entries()) {
      // What became another kind of entry meanwhile would stand at a wrong place.
      if (entry !== undefined && entry.type === window[index]?.type) yield entry
    }
  }
}

/** fs lists names only. */
function isTold({ type, modifiedAt }: Entry): boolean {
  return type === 'directory' || modifiedAt.getTime() > 0
}

export function amountOf(entry: Entry | undefined): Amount {
  return entry?.type === 'file' ? { files: 1, bytes: entry.size } : { files: 0, bytes: 0 }
}
