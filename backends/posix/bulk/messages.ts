import type { Amount } from '../../backend.ts'
import type { Failure } from '../failure.ts'

/** What the threads do with a tree. */
export type Work =
  /** `root` is the directory of the vfolder. */
  | { kind: 'usage'; root: string; isNfs: boolean }
  | { kind: 'remove'; isNfs: boolean }
  | { kind: 'remove-copied' }
  | { kind: 'clone'; durable: Durable; isNfs: boolean }
  | { kind: 'compare'; isNfs: boolean }

/** Which files of an interrupted clone are surely whole, by their change time in milliseconds. */
export interface Durable {
  /** Flushed by an earlier attempt. */
  before: number
  /** Written since this machine started: what it has not flushed yet is in its memory. */
  since: number
}

/** A part of a tree for one thread, which closes the descriptors. */
export interface Share {
  /** A directory; for what works with a copy also that. */
  fds: number[]
  /** The subdirectories to work through, in `encoding`; absent: the directory itself and all below it. */
  names?: string[]
  /** How errors call each of them, where their names in the storage mean nothing to the caller. */
  called?: string
  /** Path of the directory inside the vfolder, empty or ending in `/`. */
  base: string
}

/** Where the threads of one task look: 0 or 1, how many of them wait for a share, and 0 or 1. */
export const stopped = 0
export const idle = 1
export const givesWay = 2

export type ToThread = { work: Work; share: Share; state: Int32Array }

/** What is new since the last message of the thread. */
export interface News extends Amount {
  changed: string[]
  changedCount: number
  /** What could not be removed: directories since something was left in them. */
  left: number
}

export type FromThread =
  | { kind: 'news'; news: News }
  | { kind: 'share'; share: Share }
  | { kind: 'done'; news: News; failure?: Failure }
