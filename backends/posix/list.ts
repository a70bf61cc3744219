import { lstat, opendir } from 'node:fs/promises'
import type { Call, Entry, ListOptions } from '../backend.ts'
import { compareBytes, orderKey, sortBytes } from '../order.ts'
import type { Directory } from './directory.ts'
import { type Attributes, toEntry, withTarget } from './entry.ts'
import { errnoOf, isGone, translate, translateErrors } from './errno.ts'
import { lstatMany } from './many/index.ts'

/** How many names of one directory are kept in memory. A larger directory is read again for each such batch. */
const batchNames = 100_000
/** How many entries are looked at together, while those before them are passed on. */
const window = 256
/** Up to so many it costs less to look at each by itself. */
const fewNames = 16

/** A directory that is being listed, inside the one before it. */
interface Level {
  directory: Directory
  windows: AsyncGenerator<Entry[]>
  /** What is left of the newest window. */
  entries: Iterator<Entry, undefined>
}

/** Yields what is in `directory`, whose path is `prefix` (empty, or ending in `/`), in the order of `orderKey`. */
export async function* listDirectory(
  directory: Directory,
  prefix: string,
  options: ListOptions,
): AsyncGenerator<Entry> {
  // Not by recursion: users make trees that are deeper than the call stack.
  const levels: Level[] = [begin(directory, prefix, options)]
  const leave = async (level: Level) => {
    await level.windows.return(undefined)
    if (level.directory !== directory) level.directory.close()
  }
  try {
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const entry = level.entries.next().value
      if (entry === undefined) {
        const window = await level.windows.next()
        if (window.done) {
          levels.pop()
          await leave(level)
        } else {
          level.entries = window.value.values()
        }
        continue
      }
      options.signal.throwIfAborted()
      const key = orderKey(entry)
      if (options.after === undefined || compareBytes(key, options.after) > 0) yield entry
      const child = options.recursive && entry.type === 'directory' ? await openChild(level, entry) : undefined
      if (child !== undefined) levels.push(begin(child, key, options))
    }
  } finally {
    for (const level of levels) await leave(level)
  }
}

function begin(directory: Directory, prefix: string, options: ListOptions): Level {
  return { directory, windows: listLevel(directory, prefix, options), entries: [].values() }
}

/** A directory that vanished, or became something else, after it was listed counts as empty. */
async function openChild(parent: Level, { path }: Entry): Promise<Directory | undefined> {
  return parent.directory.openChild(path.slice(path.lastIndexOf('/') + 1)).catch((error) => {
    if (isGone(error)) return undefined
    throw translate(error, path)
  })
}

/** Yields the entries of a directory, window by window. */
async function* listLevel(
  directory: Directory,
  prefix: string,
  { after, signal }: ListOptions,
): AsyncGenerator<Entry[]> {
  const inside = after?.startsWith(prefix) ? after.slice(prefix.length) : undefined
  let wanted = (key: string) =>
    inside === undefined || compareBytes(key, inside) > 0 || (key.endsWith('/') && inside.startsWith(key))
  let batch: { keys: string[]; complete: boolean }
  do {
    batch = await translateErrors(nameOf(prefix), () => readNextKeys(directory, wanted, signal))
    yield* describe(directory, prefix, batch.keys, { signal })
    const last = batch.keys.at(-1) ?? ''
    wanted = (key) => compareBytes(key, last) > 0
  } while (!batch.complete)
}

/** The first of the wanted names, each as its order key in this directory, and whether they are all. */
async function readNextKeys(
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

async function* describe(directory: Directory, prefix: string, keys: string[], call: Call): AsyncGenerator<Entry[]> {
  let next = entriesOf(directory, prefix, keys.slice(0, window), call)
  try {
    for (let end = window; end - window < keys.length; end += window) {
      const entries = await next
      next = entriesOf(directory, prefix, keys.slice(end, end + window), call)
      next.catch(() => {}) // Awaited above; a failure must not count as unhandled until then.
      yield entries
    }
  } finally {
    await next.catch(() => {})
  }
}

/** A directory as it is called in an error. */
function nameOf(prefix: string): string {
  return prefix.slice(0, -1) || 'the vfolder'
}

/** The entries that have those names, and are of that kind, now. */
async function entriesOf(directory: Directory, prefix: string, keys: string[], call: Call): Promise<Entry[]> {
  const names = keys.map((key) => key.replace(/\/$/, ''))
  return translateErrors(nameOf(prefix), async () => {
    const looked = await lstatEach(directory, names, call)
    const entries = names.flatMap((name, index) => {
      const attributes = looked[index]
      const entry = attributes && toEntry(prefix + name, attributes)
      return entry === undefined || orderKey(entry) !== prefix + keys[index] ? [] : entry
    })
    if (!entries.some(({ type }) => type === 'symlink')) return entries
    const location = ({ path }: Entry) => directory.at(path.slice(prefix.length))
    const whole = await Promise.all(entries.map((entry) => ignoreReplaced(withTarget(entry, location(entry)))))
    return whole.filter((entry) => entry !== undefined)
  })
}

async function lstatEach(directory: Directory, names: string[], call: Call): Promise<(Attributes | undefined)[]> {
  if (names.length > fewNames) return lstatMany(directory.fd, names, call)
  return Promise.all(names.map((name) => ignoreGone(lstat(directory.at(name)))))
}

async function ignoreGone<T>(looking: Promise<T>): Promise<T | undefined> {
  try {
    return await looking
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

/** A symlink that is something else by now cannot be read (readlink(2), EINVAL). */
async function ignoreReplaced(reading: Promise<Entry>): Promise<Entry | undefined> {
  try {
    return await ignoreGone(reading)
  } catch (error) {
    if (errnoOf(error) === 'EINVAL') return undefined
    throw error
  }
}
