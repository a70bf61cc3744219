import type { Stats } from 'node:fs'
import { lstat, opendir } from 'node:fs/promises'
import type { Entry, ListOptions } from '../backend.ts'
import { compareBytes, orderKey } from '../order.ts'
import type { Directory } from './directory.ts'
import { toEntry } from './entry.ts'
import { isGone } from './errno.ts'

/** How many names of one directory are held in memory. A larger directory is read again for each such batch. */
const batchNames = 50_000
/** lstat(2) calls under way at once for one listing: enough for the thread pool, not all of it for long. */
const statsAtOnce = 16

interface Name {
  name: string
  key: string
}

/** Yields what is in `directory`, whose path is `prefix` (empty, or ending in `/`), in the order of `orderKey`. */
export async function* listDirectory(
  directory: Directory,
  prefix: string,
  { recursive, after, signal }: ListOptions,
): AsyncGenerator<Entry> {
  let wanted = (key: string) =>
    after === undefined || compareBytes(key, after) > 0 || (key.endsWith('/') && after.startsWith(key))
  let batch: { names: Name[]; complete: boolean }
  do {
    batch = await nextNames(directory, prefix, wanted, signal)
    for await (const entry of describe(directory, prefix, batch.names)) {
      signal.throwIfAborted()
      const key = orderKey(entry)
      if (after === undefined || compareBytes(key, after) > 0) yield entry
      if (recursive && entry.type === 'directory') {
        yield* listChild(directory, entry, { recursive, signal, ...(after?.startsWith(key) && { after }) })
      }
    }
    const last = batch.names.at(-1)?.key ?? ''
    wanted = (key) => compareBytes(key, last) > 0
  } while (!batch.complete)
}

/** A directory that vanished, or became something else, after it was listed has no contents to tell. */
async function* listChild(parent: Directory, entry: Entry, options: ListOptions): AsyncGenerator<Entry> {
  const name = entry.path.slice(entry.path.lastIndexOf('/') + 1)
  const child = await parent.child(name).catch((error) => {
    if (isGone(error)) return undefined
    throw error
  })
  if (child === undefined) return
  try {
    yield* listDirectory(child, `${entry.path}/`, options)
  } finally {
    child.close()
  }
}

/** The first of the names that are wanted, and whether they are all. */
async function nextNames(
  directory: Directory,
  prefix: string,
  wanted: (key: string) => boolean,
  signal: AbortSignal,
): Promise<{ names: Name[]; complete: boolean }> {
  const names: Name[] = []
  let complete = true
  const keepFirst = () => {
    names.sort((a, b) => compareBytes(a.key, b.key))
    if (names.length > batchNames) {
      names.length = batchNames
      complete = false
    }
  }

  for await (const dirent of await opendir(directory.at('.'), { bufferSize: 1024 })) {
    signal.throwIfAborted()
    const key = prefix + dirent.name + (dirent.isDirectory() ? '/' : '')
    if (wanted(key)) names.push({ name: dirent.name, key })
    if (names.length >= 2 * batchNames) keepFirst()
  }
  keepFirst()
  return { names, complete }
}

async function* describe(directory: Directory, prefix: string, names: Name[]): AsyncGenerator<Entry> {
  for (let start = 0; start < names.length; start += statsAtOnce) {
    const window = names.slice(start, start + statsAtOnce)
    const stats = await Promise.all(window.map(({ name }) => statIfPresent(directory.at(name))))
    for (const [index, { name, key }] of window.entries()) {
      const found = stats[index]
      const entry = found && toEntry(prefix + name, found)
      if (entry !== undefined && orderKey(entry) === key) yield entry
    }
  }
}

async function statIfPresent(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path)
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}
