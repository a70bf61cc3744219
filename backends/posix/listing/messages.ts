import type { Failure } from '../failure.ts'
import type { Wanted } from './selection.ts'

/** `fd` is an open directory, which stays open meanwhile. */
export type ToThread =
  /** `stopped` is 1 once nobody waits for the answer any more. */
  | { kind: 'names'; fd: number; wanted: Wanted; stopped: Int32Array }
  /** Entries by their order keys in the directory, with a NUL between two: one text costs less to send than many. */
  | { kind: 'lstat'; fd: number; keys: string }

export type FromThread =
  /** The bytes of a run, and how many keys it has. */
  | { kind: 'names'; bytes: ArrayBuffer; count: number; isComplete: boolean }
  /** What `attributes` lists of each entry. */
  | { kind: 'lstat'; attributes: ArrayBuffer }
  | { kind: 'failed'; failure: Failure }
