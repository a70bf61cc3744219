import type { Failure } from '../failure.ts'

export type ToThread =
  /** `root` is the directory of the vfolder. */
  | { kind: 'read'; root: string; files: Listed[] }
  /** Absolute paths. */
  | { kind: 'small'; locations: string[] }

/** A file as it was listed. */
export interface Listed {
  path: string
  size: number
  etag: string | undefined
}

/**
 * The bytes of all files, one behind the other; or the attributes of each and then its bytes. The attributes of an entry
 * that is gone, or not what was asked for, are zero.
 */
export type FromThread = { kind: 'done'; result: ArrayBuffer } | { kind: 'failed'; failure: Failure }

export const smallFilesAtOnce = 16
