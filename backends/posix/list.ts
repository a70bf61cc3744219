import { lstat, opendir } from 'node:fs/promises'
import type { Entry, ListOptions } from '../backend.ts'
import { compareBytes, orderKey, sortBytes } from '../order.ts'
import type { Directory } from './directory.ts'
import { toEntry, withTarget } from './entry.ts'
import { isGone } from './errno.ts'

/** How many names of one directory are kept in memory. A larger directory is read again for each such batch. */
const batchNames = 100_000
/** lstat(2) calls under way at once for one listing: enough for the thread pool, not all of it for long. */
const statsAtOnce = 16

/** A directory that is being listed, inside the one before it. */
interface Level {
  directory: Directory
  entries: AsyncGenerator<Entry>
}

/** Yields what is in `directory`, whose path is `prefix` (empty, or ending in `/`), in the order of `orderKey`. */
export async function* listDirectory(
  directory: Directory,
  prefix: string,
  options: ListOptions,
): AsyncGenerator<Entry> {
  // Not by recursion: users make trees that are deeper than the call stack.
  const levels: Level[] = [{ directory, entries: listLevel(directory, prefix, options) }]
  try {
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const { value: entry, done } = await level.entries.next()
      if (done) {
        levels.pop()
        if (level.directory !== directory) level.directory.close()
        continue
      }
      const key = orderKey(entry)
      if (options.after === undefined || compareBytes(key, options.after) > 0) yield entry
      const child = options.recursive && entry.type === 'directory' ? await openChild(level, entry) : undefined
      if (child !== undefined) levels.push({ directory: child, entries: listLevel(child, key, options) })
    }
  } finally {
    for (const level of levels.slice(1)) level.directory.close()
  }
}

/** A directory that vanished, or became something else, after it was listed has no contents to tell. */
async function openChild(parent: Level, { path }: Entry): Promise<Directory | undefined> {
  return parent.directory.child(path.slice(path.lastIndexOf('/') + 1)).catch((error) => {
    if (isGone(error)) return undefined
    throw error
  })
}

async function* listLevel(directory: Directory, prefix: string, { after, signal }: ListOptions): AsyncGenerator<Entry> {
  const inside = after?.startsWith(prefix) ? after.slice(prefix.length) : undefined
  let wanted = (key: string) =>
    inside === undefined || compareBytes(key, inside) > 0 || (key.endsWith('/') && inside.startsWith(key))
  let batch: { keys: string[]; complete: boolean }
  do {
    batch = await nextKeys(directory, wanted, signal)
    for await (const entry of describe(directory, prefix, batch.keys)) {
      signal.throwIfAborted()
      yield entry
    }
    const last = batch.keys.at(-1) ?? ''
    wanted = (key) => compareBytes(key, last) > 0
  } while (!batch.complete)
}

/** The first of the wanted names, each as its order key in this directory, and whether they are all. */
async function nextKeys(
  directory: Directory,
  wanted: (key: string) => boolean,
  signal: AbortSignal,
): Promise<{ keys: string[]; complete: boolean }> {
  const keys: string[] = []
  let limit: string | undefined
  const keepFirst = () => {
    sortBytes(keys)
    if (keys.length <= batchNames) return
    keys.length = batchNames
    limit = keys.at(-1)
  }

  for await (const dirent of await opendir(directory.at('.'), { bufferSize: 1024 })) {
    signal.throwIfAborted()
    const key = dirent.isDirectory() ? `${dirent.name}/` : dirent.name
    if (limit !== undefined && compareBytes(key, limit) > 0) continue
    if (wanted(key)) keys.push(key)
    if (keys.length >= 2 * batchNames) keepFirst()
  }
  keepFirst()
  return { keys, complete: limit === undefined }
}

async function* describe(directory: Directory, prefix: string, keys: string[]): AsyncGenerator<Entry> {
  for (let start = 0; start < keys.length; start += statsAtOnce) {
    const window = keys.slice(start, start + statsAtOnce)
    const entries = await Promise.all(
      window.map((key) => entryIfPresent(prefix + key.replace(/\/$/, ''), directory.at(key.replace(/\/$/, '')))),
    )
    for (const [index, entry] of entries.entries()) {
      if (entry !== undefined && orderKey(entry) === prefix + window[index]) yield entry
    }
  }
}

async function entryIfPresent(path: string, location: string): Promise<Entry | undefined> {
  try {
    const entry = toEntry(path, await lstat(location))
    return entry && (await withTarget(entry, location))
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}
