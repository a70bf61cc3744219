import type { Amount } from '../../backend.ts'
import type { Attributes } from '../entry.ts'

export interface ToThread {
  files: SmallWrite[]
  /** The bytes of all files, one behind the other. */
  content: ArrayBuffer
}

export interface SmallWrite {
  /** The directory of the vfolder. */
  root: string
  names: string[]
  /** Where the file is made, before it appears. */
  staging: string
  size: number
  mode: number
  uid: number | undefined
  gid: number | undefined
  /** Nothing may be in its place. */
  ifAbsent: boolean
}

export type Outcome =
  | { kind: 'stored'; attributes: Attributes; replaced: Amount | undefined }
  /** Nothing has changed. */
  | { kind: 'undone' }
  /** The file has appeared, but its directory could not be flushed. */
  | { kind: 'unflushed'; attributes: Attributes; replaced: Amount | undefined; message: string }

export interface FromThread {
  outcomes: Outcome[]
}
