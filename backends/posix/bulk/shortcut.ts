import fs from 'node:fs'
import { pathOf } from '../inside.ts'
import { encoding, toRawPath } from './directories.ts'

/** A directory that changed less than this ago could change again without another change time. */
const settledMilliseconds = 2000

/**
 * The path by which the kernel knows an open directory. Through it an entry is found in half the time that the way
 * through /proc takes, but not surely in that directory, since users may swap the directories that lead to it. A swap
 * sets the change time of the directory in which it is done, so afterwards `hasHeld` says whether there was one.
 */
export class Shortcut {
  readonly #path: string
  readonly #root: string
  readonly #versions: string | undefined

  /** @param root the directory of the vfolder, which nobody moves */
  constructor(fd: number, root: string) {
    this.#root = root
    try {
      this.#path = fs.readlinkSync(pathOf(fd), { encoding })
      this.#versions = this.#read(fs.fstatSync(fd, { bigint: true }).ino)
    } catch {
      // Removed meanwhile, or deeper than a path can be.
      this.#path = ''
    }
  }

  get isUsable(): boolean {
    return this.#versions !== undefined
  }

  at(name: string): string | Buffer {
    return toRawPath(`${this.#path}/${name}`)
  }

  hasHeld(): boolean {
    try {
      return this.#versions === this.#read()
    } catch {
      return false
    }
  }

  /** Tells the directories from the vfolder down to this one, unless one of them is not at rest. */
  #read(inode?: bigint): string | undefined {
    if (this.#path !== this.#root && !this.#path.startsWith(`${this.#root}/`)) return undefined
    const versions: string[] = []
    let last: bigint | undefined
    for (let end = this.#root.length; end >= 0; end = this.#nextEnd(end)) {
      const stats = fs.lstatSync(toRawPath(this.#path.slice(0, end)), { bigint: true })
      if (!stats.isDirectory() || Date.now() - Number(stats.ctimeMs) < settledMilliseconds) return undefined
      versions.push(`${stats.dev}:${stats.ino}:${stats.ctimeNs}`)
      last = stats.ino
    }
    return inode === undefined || inode === last ? versions.join() : undefined
  }

  /** Where the path of the next directory on the way ends; negative after the last one. */
  #nextEnd(end: number): number {
    if (end === this.#path.length) return -1
    const next = this.#path.indexOf('/', end + 1)
    return next < 0 ? this.#path.length : next
  }
}
