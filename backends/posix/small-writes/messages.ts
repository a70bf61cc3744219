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
  /** Whether the mode was asked for; otherwise a file that is replaced keeps its own. */
  hasMode: boolean
  uid: number | undefined
  gid: number | undefined
  /** Nothing may be in its place. */
  ifAbsent: boolean
}

/** A file that is seen by now. */
export interface Appeared {
  attributes: Attributes
  replaced: Amount | undefined
}

export type FromThread =
  /** Of each file, in their order; undefined where nothing has changed. Those that have appeared are durable later. */
  | { kind: 'appeared'; files: (Appeared | undefined)[] }
  /** For each file why its directory could not be flushed; undefined where it is durable. The last answer. */
  | { kind: 'flushed'; failures: (string | undefined)[] }
