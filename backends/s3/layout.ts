import { createHash } from 'node:crypto'
import { InvalidPath } from '../errors.ts'
import type { DescribedObject } from './bucket.ts'
import type { S3Options } from './options.ts'

/** The longest key that S3 takes, in bytes of UTF-8 (Amazon S3 user guide, "Naming Amazon S3 objects"). */
export const maxKeyBytes = 1024

/** No ID of a vfolder has a dot. */
const trashSuffix = '.trash'

/**
 * Where things are in the bucket, below the volume's prefix:
 *
 *     vfolders/ID/        the marker of a vfolder: an object of no bytes, so that an empty one is there too
 *     vfolders/ID/a/b     the file a/b
 *     vfolders/ID/a/      the marker of a directory that was made, or that something was removed from
 *     trash/ID/           the marker of the trash of a vfolder, and what was deleted and can be restored
 *     uploads/ID/         the marker of a resumable upload; it has the size of a segment in its metadata
 *     uploads/ID/000000   the bytes of the upload, a segment an object
 *     moves/HASH          the journal of a move that is under way
 *     locks/HASH          that somebody is about to make a file appear
 *     probes/UUID         what is written to find out what the server can do
 *     identity            by which the service tells the volume from another one in its place
 */
export class Keys {
  readonly prefix: string

  /** @param prefix may begin and end with slashes or not */
  constructor(prefix: string) {
    const names = prefix.split('/').filter(Boolean).join('/')
    this.prefix = names === '' ? '' : `${names}/`
  }

  get vfolders(): string {
    return `${this.prefix}vfolders/`
  }

  /** What the keys of a vfolder, or of its trash, begin with, and its marker. */
  folder(id: string): string {
    if (id.endsWith(trashSuffix)) return `${this.prefix}trash/${id.slice(0, -trashSuffix.length)}/`
    return `${this.vfolders}${id}/`
  }

  /** What `folder` is given for the trash of a vfolder. */
  trashOf(id: string): string {
    return `${id}${trashSuffix}`
  }

  /** @throws {InvalidPath} when the path makes a longer key than S3 takes */
  entry(folder: string, path: string): string {
    const key = this.folder(folder) + path
    // A directory's marker has a slash more.
    if (Buffer.byteLength(key) >= maxKeyBytes) throw new InvalidPath(`${path} is too long for this volume`)
    return key
  }

  get identity(): string {
    return `${this.prefix}identity`
  }

  get uploads(): string {
    return `${this.prefix}uploads/`
  }

  /** What the keys of an upload begin with, and its marker. */
  upload(id: string): string {
    return `${this.uploads}${id}/`
  }

  segment(upload: string, index: number): string {
    return this.upload(upload) + String(index).padStart(6, '0')
  }

  get moves(): string {
    return `${this.prefix}moves/`
  }

  /** The same for the same move. */
  move(...names: string[]): string {
    return this.moves + hashOf(names)
  }

  get locks(): string {
    return `${this.prefix}locks/`
  }

  lock(...names: string[]): string {
    return this.locks + hashOf(names)
  }

  get probes(): string {
    return `${this.prefix}probes/`
  }
}

/** The bucket, and each prefix of the volume's prefix that ends in a slash. */
export function placesOf({ endpoint, bucket, prefix }: Pick<S3Options, 'endpoint' | 'bucket' | 'prefix'>): string[] {
  const server = endpoint === undefined ? '' : (URL.parse(endpoint)?.href.replace(/\/*$/, '') ?? endpoint)
  const places = [`${server}/${bucket}/`]
  for (const name of new Keys(prefix).prefix.split('/').slice(0, -1)) places.push(`${places.at(-1)}${name}/`)
  return places
}

/** Whether a key below one of the prefixes was made by this class: others may use the bucket, too. */
export function isOwn(key: string): boolean {
  return /(?:^|\/)(?:uploads\/[0-9a-f-]{36}\/(?:\d{6})?|(?:moves|locks)\/[0-9a-f]{64}|probes\/[0-9a-f-]{36})$/.test(key)
}

/** Names of any length make a key of one length. */
function hashOf(names: string[]): string {
  return createHash('sha256').update(names.join('\0')).digest('hex')
}

/**
 * Metadata of each object that is written: which write it comes from. A command whose answer was lost is sent again, and
 * then may find that it has had its effect: its precondition fails, or its multipart upload is gone, by its own doing.
 */
const writeIdName = 'write'

export const writeMetadata = (id: string) => ({ [writeIdName]: id })

export function isOf(object: DescribedObject | undefined, id: string): boolean {
  return object?.metadata[writeIdName] === id
}
