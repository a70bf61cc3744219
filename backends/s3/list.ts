import type { Amount, Call, Entry, ListOptions } from '../backend.ts'
import { NotADirectory, NotFound } from '../errors.ts'
import { compareBytes, orderKey } from '../order.ts'
import { brokenRule } from '../path.ts'
import { type Bucket, lastOf, type Page, type StoredObject } from './bucket.ts'
import { ancestorsOf, directoryEntry, directoryExists, fileEntry } from './entry.ts'
import type { Store } from './store.ts'

/** Keys that no path can name are no entries. */
export async function* listEntries(store: Store, folder: string, options: ListOptions): AsyncGenerator<Entry> {
  const { path = '', after, recursive } = options
  const root = store.keys.folder(folder)
  const prefix = path === '' ? root : `${store.keys.entry(folder, path)}/`
  const scope = { root, prefix, wanted: prefix + beginOf(options) }
  // A listing that begins later may be empty, and so says nothing about the directory.
  if (after !== undefined) await requireDirectory(store, prefix, path, options)
  const entries = recursive ? listTree(store, scope, options) : listLevel(store, scope, options)
  let found = after !== undefined
  for await (const entry of entries) {
    found = true
    if (after === undefined || compareBytes(orderKey(entry), after) > 0) yield entry
  }
  if (!found) await requireDirectory(store, prefix, path, options)
}

/** Where a listing looks. */
interface Scope {
  /** What the keys of the vfolder begin with. */
  root: string
  /** What those in the listed directory begin with. */
  prefix: string
  /** What those begin with that a pattern may match. */
  wanted: string
}

/** What all that is wanted of a directory begins with; names at any depth have nothing in common. */
function beginOf({ pattern, recursive }: ListOptions): string {
  return pattern === undefined || (recursive && !pattern.ofPaths) ? '' : pattern.literal
}

/** @throws {NotFound} @throws {NotADirectory} */
async function requireDirectory(store: Store, prefix: string, path: string, call: Call): Promise<void> {
  const key = prefix.slice(0, -1)
  if (await directoryExists(store, key, call)) return
  if (path === '') throw new NotFound('the vfolder does not exist')
  if ((await store.bucket.head(key, call)) !== undefined) throw new NotADirectory(`${path} is not a directory`)
  throw new NotFound(`${path} does not exist`)
}

async function* listLevel(
  { bucket }: Store,
  { root, prefix, wanted }: Scope,
  { after, signal }: ListOptions,
): AsyncGenerator<Entry> {
  let next: Page['next'] = after === undefined ? {} : { after: startOf(root, prefix, after) }
  let before = ''
  while (next !== undefined) {
    const page: Page = await bucket.page({ prefix: wanted, delimiter: '/', signal, ...next })
    for (const item of merged(page)) {
      signal.throwIfAborted()
      const key = typeof item === 'string' ? item : item.key
      const path = key.slice(root.length).replace(/\/$/, '')
      // A directory is told of again by the next page, when one of its names begins with the last character there is.
      if (key === prefix || key === before || brokenRule(path) !== undefined) continue
      before = key
      yield typeof item === 'string' ? directoryEntry(path) : fileEntry(path, item)
    }
    next = page.next
  }
}

/** Where in the level of `prefix` a listing goes on that has come to `position`, which may be further down. */
function startOf(root: string, prefix: string, position: string): string {
  const key = root + position
  const slash = key.startsWith(prefix) ? key.indexOf('/', prefix.length) : -1
  return slash < 0 ? key : lastOf(key.slice(0, slash + 1))
}

/** Objects and prefixes of a page, which come one after the other, in the order of their keys. */
function* merged({ objects, prefixes }: Page): Generator<StoredObject | string> {
  let next = 0
  for (const object of objects) {
    for (let prefix = prefixes[next]; prefix !== undefined; prefix = prefixes[++next]) {
      if (compareBytes(prefix, object.key) > 0) break
      yield prefix
    }
    yield object
  }
  yield* prefixes.slice(next)
}

async function* listTree(
  { bucket }: Store,
  { root, prefix, wanted }: Scope,
  { after, signal }: ListOptions,
): AsyncGenerator<Entry> {
  // Keys with a directory in common follow each other, so a directory is new when the key before was not in it.
  let before = after === undefined ? prefix : root + after
  const start = after === undefined ? {} : { after: before }
  for await (const page of bucket.pages({ prefix: wanted, signal, ...start })) {
    for (const object of page) {
      signal.throwIfAborted()
      const path = object.key.slice(root.length)
      if (object.key === prefix || brokenRule(path.replace(/\/$/, '')) !== undefined) continue
      for (const directory of ancestorsOf(path)) {
        const key = `${root}${directory}/`
        if (key.length > prefix.length && !before.startsWith(key)) yield directoryEntry(directory)
      }
      if (!path.endsWith('/')) yield fileEntry(path, object)
      before = object.key
    }
  }
}

export async function countFolder({ bucket, keys }: Store, folder: string, { signal }: Call): Promise<Amount> {
  const total = { files: 0, bytes: 0 }
  const prefix = keys.folder(folder)
  let found = false
  for await (const page of bucket.pages({ prefix, signal })) {
    found = true
    for (const { key, size } of page) {
      if (key.endsWith('/')) continue
      total.files++
      total.bytes += size
    }
  }
  if (!found) throw new NotFound('the vfolder does not exist')
  return total
}

/** The objects of one name below two prefixes; one of them may be missing. */
export interface Pair {
  /** The key without the prefix. */
  name: string
  source: StoredObject | undefined
  copy: StoredObject | undefined
}

/** Walks through two listings side by side, in constant memory. */
export async function* pairs(bucket: Bucket, from: string, to: string, { signal }: Call): AsyncGenerator<Pair> {
  const sources = bucket.objects({ prefix: from, signal })
  const copies = bucket.objects({ prefix: to, signal })
  const next = async (objects: AsyncGenerator<StoredObject>) => {
    const { value, done } = await objects.next()
    return done ? undefined : value
  }
  let [source, copy] = await Promise.all([next(sources), next(copies)])
  while (source !== undefined || copy !== undefined) {
    const order = orderOf(source?.key.slice(from.length), copy?.key.slice(to.length))
    const pair = { source: order <= 0 ? source : undefined, copy: order >= 0 ? copy : undefined }
    yield { name: pair.source?.key.slice(from.length) ?? pair.copy?.key.slice(to.length) ?? '', ...pair }
    if (pair.source !== undefined) source = await next(sources)
    if (pair.copy !== undefined) copy = await next(copies)
  }
}

function orderOf(a: string | undefined, b: string | undefined): number {
  if (a === undefined) return 1
  return b === undefined ? -1 : compareBytes(a, b)
}

/**
 * Whether a copy that was made of the source has its bytes of now. A server may give the copy of a large object another
 * etag; then it is by the times.
 */
export function isCurrent(source: StoredObject, copy: StoredObject | undefined): boolean {
  if (copy?.size !== source.size) return false
  return copy.etag === source.etag || source.modifiedAt <= copy.modifiedAt
}
