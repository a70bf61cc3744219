import type { Call, Entry, ListOptions } from '../backend.ts'
import { compareBytes, orderKey } from '../order.ts'
import { attributesAt } from './attributes.ts'
import type { Directory } from './directory.ts'
import { toEntry, withTarget } from './entry.ts'
import { errnoOf, isGone, translate, translateErrors } from './errno.ts'
import { lstat } from './files.ts'
import { type Names, readNames } from './listing/names.ts'
import { lastOf, windowsOf } from './listing/runs.ts'
import { lstatMany } from './listing/threads.ts'

/** How many entries are looked at together, while those before them are passed on. */
const window = 512
/** Up to so many it costs less to look at each by itself. */
const fewNames = 16

type Options = ListOptions & { isNfs?: boolean }

/** A directory that is being listed, inside the one before it. */
interface Level {
  directory: Directory
  windows: AsyncGenerator<Entry[]>
  /** What is left of the newest window. */
  entries: Iterator<Entry, undefined>
}

/**
 * Yields what is in `directory`, whose path is `prefix` (empty, or ending in `/`), in the order of `orderKey`, many
 * entries at a time.
 */
export async function* listDirectory(directory: Directory, prefix: string, options: Options): AsyncGenerator<Entry[]> {
  // Not by recursion: users make trees that are deeper than the call stack.
  const levels: Level[] = [begin(directory, prefix, prefix, options)]
  const many = Math.min(options.limit ?? window, window)
  let listed: Entry[] = []
  const leave = async (level: Level) => {
    await level.windows.return(undefined)
    if (level.directory !== directory) level.directory.close()
  }
  try {
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const entry = level.entries.next().value
      if (entry === undefined) {
        if (listed.length >= many) {
          yield listed
          listed = []
        }
        const next = await level.windows.next()
        if (next.done) {
          levels.pop()
          await leave(level)
        } else {
          level.entries = next.value.values()
        }
        continue
      }
      options.signal.throwIfAborted()
      const key = orderKey(entry)
      if (options.after === undefined || compareBytes(key, options.after) > 0) listed.push(entry)
      const child = leadsOn(entry, prefix, options) ? await openChild(level, entry) : undefined
      if (child !== undefined) levels.push(begin(child, key, prefix, options))
    }
    if (listed.length > 0) yield listed
  } finally {
    for (const level of levels) await leave(level)
  }
}

function begin(directory: Directory, prefix: string, top: string, options: Options): Level {
  const windows = listLevel(directory, prefix, prefix.slice(top.length), options)
  return { directory, windows, entries: [].values() }
}

function leadsOn({ type, path }: Entry, top: string, { recursive = false, pattern }: ListOptions): boolean {
  return type === 'directory' && recursive && (pattern?.leadsBelow(path.slice(top.length)) ?? true)
}

/** A directory that vanished, or became something else, after it was listed counts as empty. */
async function openChild(parent: Level, { path }: Entry): Promise<Directory | undefined> {
  return parent.directory.openChild(path.slice(path.lastIndexOf('/') + 1)).catch((error) => {
    if (isGone(error)) return undefined
    throw translate(error, path)
  })
}

/** Yields the entries of a directory, window by window. `base` is its path, relative to the one that is listed. */
async function* listLevel(
  directory: Directory,
  prefix: string,
  base: string,
  { after, signal, recursive = false, pattern, limit = Number.POSITIVE_INFINITY, isNfs = false }: Options,
): AsyncGenerator<Entry[]> {
  const wanted = { base, enough: limit, pattern: pattern?.text, recursive, isNfs }
  let behind = after?.startsWith(prefix) ? after.slice(prefix.length) : undefined
  let into = true
  for (;;) {
    const position = { ...wanted, after: behind, into }
    const names = await translateErrors(nameOf(prefix), () => readNames(directory, position, { signal }))
    yield* describe(directory, prefix, names, { signal })
    if (names.isComplete) return
    behind = lastOf(names.run)
    into = false
  }
}

/** Looks ahead while the caller is at work on the entries before: by one window, or for long listings by two threads. */
async function* describe(directory: Directory, prefix: string, names: Names, call: Call): AsyncGenerator<Entry[]> {
  const ahead: Promise<Entry[]>[] = []
  try {
    for (const keys of windowsOf(names.run, window)) {
      const looking = entriesOf(directory, prefix, keys, call)
      looking.catch(() => {}) // Awaited below; a failure must not count as unhandled until then.
      ahead.push(looking)
      if (ahead.length > (names.areMany ? 2 : 1)) yield (await ahead.shift()) ?? []
    }
    for (let looking = ahead.shift(); looking !== undefined; looking = ahead.shift()) yield await looking
  } finally {
    await Promise.allSettled(ahead)
  }
}

/** A directory as it is called in an error. */
function nameOf(prefix: string): string {
  return prefix.slice(0, -1) || 'the vfolder'
}

/** The entries that have those names, and are of that kind, now. */
async function entriesOf(directory: Directory, prefix: string, text: string, call: Call): Promise<Entry[]> {
  if (text === '') return []
  const keys = text.split('\0')
  return translateErrors(nameOf(prefix), async () => {
    const attributesOf = await look(directory, keys, text, call)
    const entries: Entry[] = []
    let symlinks = 0
    for (const [index, key] of keys.entries()) {
      const attributes = attributesOf(index)
      const entry = attributes && toEntry(prefix + nameIn(key), attributes)
      if (entry === undefined || (entry.type === 'directory') !== key.endsWith('/')) continue
      if (entry.type === 'symlink') symlinks++
      entries.push(entry)
    }
    if (symlinks === 0) return entries
    const location = ({ path }: Entry) => directory.at(path.slice(prefix.length))
    const whole = await Promise.all(entries.map((entry) => ignoreReplaced(withTarget(entry, location(entry)))))
    return whole.filter((entry) => entry !== undefined)
  })
}

/** The name that is in an order key. */
function nameIn(key: string): string {
  return key.endsWith('/') ? key.slice(0, -1) : key
}

async function look(directory: Directory, keys: string[], text: string, call: Call) {
  if (keys.length > fewNames) {
    const numbers = await lstatMany(directory.fd, text, call)
    return (index: number) => attributesAt(numbers, index)
  }
  const looked = await Promise.all(keys.map((key) => ignoreGone(lstat(directory.at(nameIn(key))))))
  return (index: number) => looked[index]
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
