import fs from 'node:fs'
import { gone, ignoreErrors } from '../errno.ts'
import { isSilly } from '../silly.ts'
import { Copier, setAttributes, setDirectoryAttributes } from './copy.ts'
import { at, entriesOf, isEmpty, lstat, openDirectory } from './directories.ts'
import type { Durable } from './messages.ts'
import { remove } from './remove.ts'
import { Restless, type Run, withPath } from './run.ts'
import { Subdirectories } from './subdirectories.ts'
import { isSameTime } from './times.ts'
import { type Level, type Operation, walk } from './walk.ts'

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants

const attempts = 4
const ownerAll = 0o700

/** Copies the entries of one directory into another, which is empty or has what an earlier attempt left. */
export function clone(run: Run, { durable, isNfs }: { durable: Durable; isNfs: boolean }): Operation {
  const cloning = new Cloning(run, durable, isNfs)
  const modes = new Map<Level, number>()
  return {
    open(parent, name) {
      const source = ignoreErrors(gone, () => openDirectory(parent.fd, name))
      if (source === undefined) {
        run.tellChanged(parent.path(name))
        return undefined
      }
      try {
        const copy = ignoreErrors(['ENOENT'], () => openDirectory(parent.copy, name))
        if (copy !== undefined) return [source, copy]
      } catch (error) {
        fs.closeSync(source)
        throw error
      }
      // It came after its directory was copied.
      fs.closeSync(source)
      run.tellChanged(parent.path(name))
      return undefined
    },

    enter(level) {
      const stats = fs.fstatSync(level.fd)
      const subdirectories = cloning.entries(level)
      // A directory that its owner must not enter gets its mode when there is nothing more to do in it.
      const closed = (stats.mode & ownerAll) !== ownerAll
      setDirectoryAttributes(level.copy, stats, closed ? stats.mode | ownerAll : stats.mode)
      if (closed) {
        level.mayShare = false
        modes.set(level, stats.mode)
      }
      return subdirectories
    },

    leave(level) {
      const mode = modes.get(level)
      if (mode === undefined) return
      modes.delete(level)
      fs.fchmodSync(level.copy, mode & 0o7777)
    },
  }
}

class Cloning {
  readonly #run: Run
  readonly #durable: Durable
  readonly #isNfs: boolean
  readonly #copier: Copier
  /** How much of the file that is being copied was counted already. */
  #counted = 0

  constructor(run: Run, durable: Durable, isNfs: boolean) {
    this.#run = run
    this.#durable = durable
    this.#isNfs = isNfs
    const onChunk = (bytes: number) => {
      this.#count(0, bytes)
      run.check()
    }
    this.#copier = new Copier(onChunk, { isNfs })
  }

  entries(level: Level): Iterable<string> {
    const isNew = isEmpty(level.copy)
    if (!isNew) {
      fs.fchmodSync(level.copy, ownerAll)
      this.#removeStrays(level)
    }
    const subdirectories = new Subdirectories()
    for (const entry of entriesOf(level.fd, { isNfs: this.#isNfs })) {
      const { name } = entry
      this.#run.check()
      if (this.#isNfs && isSilly(name)) continue
      try {
        if (entry.isDirectory()) {
          this.#makeDirectory(level, name)
          subdirectories.add(name)
        } else if (entry.isFile()) this.#copyFile(level, name, isNew)
        else if (entry.isSymbolicLink()) this.#copySymlink(level, name, isNew)
      } catch (error) {
        throw withPath(error, level.path(name))
      }
    }
    return subdirectories.in(level.fd, { isNfs: this.#isNfs })
  }

  #makeDirectory({ copy }: Level, name: string): void {
    const there = lstat(copy, name)
    if (there?.isDirectory()) return
    if (there !== undefined) fs.unlinkSync(at(copy, name))
    fs.mkdirSync(at(copy, name), ownerAll)
  }

  #copyFile(level: Level, name: string, isNew: boolean): void {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const fd = ignoreErrors(gone, () => fs.openSync(at(level.fd, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK))
      try {
        const stats = fd === undefined ? undefined : fs.fstatSync(fd)
        if (fd === undefined || !stats?.isFile()) {
          this.#run.tellChanged(level.path(name))
          return
        }
        const isDone = !isNew && this.#isDone(level, name, stats)
        if (isDone || this.#copyOnce(fd, stats, level.copy, name)) {
          this.#count(1, stats.size - this.#counted)
          return
        }
        this.#count(0, -this.#counted)
      } finally {
        this.#counted = 0
        if (fd !== undefined) fs.closeSync(fd)
      }
    }
    throw new Restless(`${level.path(name)} changed each time it was copied`)
  }

  #count(files: number, bytes: number): void {
    this.#counted += bytes
    this.#run.count(files, bytes)
  }

  /** Copies a file, and takes the copy back when the file changed meanwhile. */
  #copyOnce(fd: number, stats: fs.Stats, copy: number, name: string): boolean {
    this.#copier.copy(fd, stats, copy, name)
    const unchanged = isUnchanged(stats, fs.fstatSync(fd))
    if (unchanged) setAttributes(copy, name, stats)
    else fs.unlinkSync(at(copy, name))
    return unchanged
  }

  #copySymlink(level: Level, name: string, isNew: boolean): void {
    const stats = lstat(level.fd, name)
    const target = ignoreErrors([...gone, 'EINVAL'], () => fs.readlinkSync(at(level.fd, name), { encoding: 'buffer' }))
    if (target === undefined || !stats?.isSymbolicLink()) {
      this.#run.tellChanged(level.path(name))
      return
    }
    if (!isNew) this.#removeTree(level, name)
    fs.symlinkSync(target, at(level.copy, name))
    setAttributes(level.copy, name, stats)
    this.#run.count(1, 0)
  }

  /** Whether an earlier attempt copied this file; anything else of that name is removed. */
  #isDone(level: Level, name: string, source: fs.Stats): boolean {
    const stats = lstat(level.copy, name)
    if (stats === undefined) return false
    const { before, since } = this.#durable
    const durable = stats.ctimeMs < before || stats.ctimeMs >= since
    // The time of the source is set last, so a file that has it is whole.
    const same = stats.isFile() && stats.size === source.size && isSameTime(source.mtimeMs, stats.mtimeMs)
    if (durable && same) return true
    this.#removeTree(level, name)
    return false
  }

  /** Removes from the copy what is not in the source any more. */
  #removeStrays(level: Level): void {
    for (const { name } of entriesOf(level.copy, { isNfs: this.#isNfs })) {
      this.#run.check()
      const stats = lstat(level.fd, name)
      if (!stats?.isFile() && !stats?.isDirectory() && !stats?.isSymbolicLink()) this.#removeTree(level, name)
    }
  }

  #removeTree({ copy }: Level, name: string): void {
    if (!lstat(copy, name)?.isDirectory()) {
      ignoreErrors(['ENOENT'], () => fs.unlinkSync(at(copy, name)))
      return
    }
    const run = this.#run.createAside()
    walk(remove(run, { isNfs: this.#isNfs }), { fds: [openDirectory(copy, '.')], names: [name], base: '' }, run)
  }
}

function isUnchanged(before: fs.Stats, after: fs.Stats): boolean {
  return before.size === after.size && before.mtimeMs === after.mtimeMs && before.ctimeMs === after.ctimeMs
}
