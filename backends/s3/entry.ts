import type { Call, Entry } from '../backend.ts'
import { AlreadyExists, IsADirectory, NotADirectory, NotFound } from '../errors.ts'
import type { DescribedObject, StoredObject } from './bucket.ts'
import type { Store } from './store.ts'

/** To whole seconds, since a listing tells more than the headers of an object do. */
export function fileEntry(path: string, { size, modifiedAt, etag }: StoredObject): Entry {
  const seconds = Math.floor(modifiedAt.getTime() / 1000)
  return { path, type: 'file', size, modifiedAt: new Date(seconds * 1000), etag }
}

/** S3 keeps no time of what is only a part of its keys. */
export function directoryEntry(path: string): Entry {
  return { path, type: 'directory', size: 0, modifiedAt: new Date(0) }
}

const nothing = Buffer.alloc(0)

/** A directory is there when a key begins with its path and a slash, be it only its marker. */
export async function directoryExists({ bucket }: Store, key: string, { signal }: Call): Promise<boolean> {
  const { objects } = await bucket.page({ prefix: `${key}/`, limit: 1, signal })
  return objects.length > 0
}

export async function putMarker({ bucket }: Store, key: string, { signal }: Call): Promise<void> {
  await bucket.put(key, nothing, { signal })
}

/** @throws {NotFound} */
export async function statEntry(store: Store, folder: string, path: string, call: Call): Promise<Entry> {
  const key = store.keys.entry(folder, path)
  const object = await store.bucket.head(key, call)
  if (object !== undefined) return fileEntry(path, object)
  if (await directoryExists(store, key, call)) return directoryEntry(path)
  throw new NotFound(`${path} does not exist`)
}

/**
 * What stands where a file is to be written, if anything.
 * @throws {IsADirectory}
 * @throws {NotADirectory} when a file is on the way
 */
export async function placeOf(
  store: Store,
  folder: string,
  path: string,
  call: Call,
): Promise<DescribedObject | undefined> {
  const key = store.keys.entry(folder, path)
  const [object, directory] = await Promise.all([
    store.bucket.head(key, call),
    directoryExists(store, key, call),
    refuseFilesOnTheWay(store, folder, path, call),
  ])
  if (directory) throw new IsADirectory(`${path} is a directory`)
  return object
}

/** @throws {NotADirectory} */
export async function refuseFilesOnTheWay(store: Store, folder: string, path: string, call: Call): Promise<void> {
  const ancestors = ancestorsOf(path).map(async (ancestor) => {
    if ((await store.bucket.head(store.keys.entry(folder, ancestor), call)) === undefined) return
    throw new NotADirectory(`${path} leads through an entry that is not a directory`)
  })
  await Promise.all(ancestors)
}

/** The directories that lead to a path, the outermost first. */
export function ancestorsOf(path: string): string[] {
  const ancestors: string[] = []
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    ancestors.push(path.slice(0, slash))
  }
  return ancestors
}

/** @throws {AlreadyExists} @throws {NotADirectory} */
export async function makeDirectory(store: Store, folder: string, path: string, call: Call): Promise<void> {
  const key = store.keys.entry(folder, path)
  const [file, directory] = await Promise.all([
    store.bucket.head(key, call),
    directoryExists(store, key, call),
    refuseFilesOnTheWay(store, folder, path, call),
  ])
  if (file !== undefined || directory) throw new AlreadyExists(`${path} exists already`)
  await putMarker(store, `${key}/`, call)
}

/** Makes sure that the directory an entry is in stays when the entry goes, as it would on any filesystem. */
export async function keepParent(store: Store, folder: string, path: string, call: Call): Promise<void> {
  const parent = ancestorsOf(path).at(-1)
  if (parent === undefined) return
  const marker = `${store.keys.entry(folder, parent)}/`
  if ((await store.bucket.head(marker, call)) === undefined) await putMarker(store, marker, call)
}
