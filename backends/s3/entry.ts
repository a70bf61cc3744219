import type { Entry } from '../backend.ts'
import type { StoredObject } from './bucket.ts'

/** To whole seconds, since a listing tells more than the headers of an object do. */
export function fileEntry(path: string, { size, modifiedAt, etag }: StoredObject): Entry {
  const seconds = Math.floor(modifiedAt.getTime() / 1000)
  return { path, type: 'file', size, modifiedAt: new Date(seconds * 1000), etag }
}

/** S3 keeps no time of what is only a part of its keys. */
export function directoryEntry(path: string): Entry {
  return { path, type: 'directory', size: 0, modifiedAt: new Date(0) }
}
