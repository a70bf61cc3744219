import type { Failure } from '../failure.ts'

export type ToThread =
  /** `root` is the directory of the vfolder. */
  | { kind: 'read'; root: string; files: Listed[] }
  /** `names` are in the open directory `fd`. */
  | { kind: 'lstat'; fd: number; names: string[] }
  /** Absolute paths. */
  | { kind: 'small'; locations: string[] }

/** A file as it was listed. */
export interface Listed {
  path: string
  size: number
  etag: string | undefined
}

/**
 * The bytes of all files, one behind the other; or of each name what `attributes` lists, as 64-bit floats; or the one
 * behind the other. The attributes of an entry that is gone, or not what was asked for, are zero.
 */
export type FromThread = { kind: 'done'; result: ArrayBuffer } | { kind: 'failed'; failure: Failure }

/** Copying some numbers between threads costs less than copying objects. */
export const attributes = ['mode', 'size', 'ino', 'mtimeMs', 'ctimeMs'] as const

export const smallFilesAtOnce = 16
