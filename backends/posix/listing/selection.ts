import type { Dirent } from 'node:fs'
import { compareBytes, orderKey, sortBytes } from '../../order.ts'
import { Pattern } from '../../pattern.ts'
import { lastOf, merge, type Run, runOf } from './runs.ts'

/** Which names of one directory are wanted. Can be sent to a thread. */
export interface Wanted {
  /** The path of the directory, relative to the one that is listed; empty, or ending in `/`. */
  base: string
  /** Only order keys behind this one, in the directory; and, with `into`, the directory that it is, or that it leads into. */
  after?: string | undefined
  into: boolean
  /** So many are enough for now. */
  enough: number
  /** Only what matches, and directories that lead to such entries. */
  pattern?: string | undefined
  recursive: boolean
  /** A server may tell no kinds of entries, and clients keep files under names of their own. */
  isNfs: boolean
}

/** So much is kept of the names that come first: a million names of usual length. Of more, a directory is read again. */
const batchBytes = 24 * 1024 * 1024
/** So many names are sorted together. */
const sortedAtOnce = 32_768

/** The wanted names that come first in the listing, of any number that is added, in constant memory. */
export class Selection {
  readonly #wanted: Wanted
  readonly #pattern: Pattern | undefined
  /** Not sorted yet. */
  #keys: string[] = []
  #runs: Run[] = []
  /** Of all runs. */
  #bytes = 0
  #count = 0
  /** The last key that was kept, once some were not. */
  #last: string | undefined

  constructor(wanted: Wanted) {
    this.#wanted = wanted
    this.#pattern = wanted.pattern === undefined ? undefined : new Pattern(wanted.pattern)
  }

  add(entry: Pick<Dirent, 'name' | 'isDirectory'>): void {
    const type = entry.isDirectory() ? 'directory' : 'file'
    const key = orderKey({ path: entry.name, type })
    if (this.#last !== undefined && compareBytes(key, this.#last) > 0) return
    if (!this.#isBehind(key) || !this.#fits(entry.name, type)) return
    this.#keys.push(key)
    if (this.#keys.length >= Math.min(sortedAtOnce, 2 * this.#wanted.enough)) this.#endRun()
  }

  /** What comes first of all that was added, and whether that is all. */
  end(): { run: Run; isComplete: boolean } {
    this.#endRun()
    this.#keepFirst()
    const [run = runOf([])] = this.#runs
    return { run, isComplete: this.#last === undefined }
  }

  #isBehind(key: string): boolean {
    const { after, into } = this.#wanted
    if (after === undefined || compareBytes(key, after) > 0) return true
    return into && key.endsWith('/') && after.startsWith(key)
  }

  #fits(name: string, type: 'directory' | 'file'): boolean {
    const pattern = this.#pattern
    if (pattern === undefined) return true
    const path = this.#wanted.base + name
    return pattern.matches(path) || (type === 'directory' && this.#wanted.recursive && pattern.leadsBelow(path))
  }

  #endRun(): void {
    if (this.#keys.length === 0) return
    sortBytes(this.#keys)
    const run = runOf(this.#keys)
    this.#keys = []
    this.#runs.push(run)
    this.#bytes += run.bytes.length
    this.#count += run.count
    if (this.#bytes >= 2 * batchBytes || this.#count >= 2 * this.#wanted.enough) this.#keepFirst()
  }

  #keepFirst(): void {
    if (this.#runs.length === 1 && this.#count <= this.#wanted.enough && this.#bytes <= batchBytes) return
    const kept = merge(this.#runs, { keys: this.#wanted.enough, bytes: batchBytes })
    if (kept.count < this.#count) this.#last = lastOf(kept)
    this.#runs = [kept]
    this.#bytes = kept.bytes.length
    this.#count = kept.count
  }
}
