import fs from 'node:fs'
import { pathOf } from '../inside.ts'
import { toReadable } from './directories.ts'
import type { Share } from './messages.ts'
import { Restless, type Run, withPath } from './run.ts'
import { mostNames } from './subdirectories.ts'

const { O_DIRECTORY, O_RDONLY } = fs.constants

/** How many directories on the way down are held open; the depth of a tree has no limit. */
const openLevels = 64

/** What is done at each directory of a tree. */
export interface Operation {
  /** Opens a subdirectory, or gives undefined when there is nothing to do in it. */
  open(parent: Level, name: string): number[] | undefined
  /** Works through the entries of a directory and gives the names of the subdirectories to walk through. */
  enter(level: Level): Iterable<string>
  /** Told after all below a directory is done, but for what another thread has taken over. */
  leave?(level: Level, parent: Level | undefined): void
}

/** A directory on the way down. */
export class Level {
  readonly parent: Level | undefined
  readonly name: string
  /** How errors call its entries; absent: by their names. */
  readonly called: string | undefined
  readonly #base: string
  #fds: number[]
  #identities: string[] | undefined
  /** Those to walk through, and which there are beyond them. */
  names: string[] = []
  #more: Iterator<string> | undefined
  /** Whether its subdirectories may be given to another thread. */
  mayShare = true

  constructor(fds: number[], name: string, from: Level | string, called?: string) {
    this.#fds = fds
    this.name = name
    this.called = called
    this.parent = from instanceof Level ? from : undefined
    this.#base = from instanceof Level ? '' : from
  }

  /** To be called while the directory is open. */
  take(names: Iterable<string>): void {
    this.#more = names[Symbol.iterator]()
    this.#refill()
  }

  next(): string | undefined {
    if (this.names.length === 0) this.#refill()
    return this.names.pop()
  }

  #refill(): void {
    while (this.#more !== undefined && this.names.length < mostNames) {
      const { done, value } = this.#more.next()
      if (done) this.#more = undefined
      else this.names.push(value)
    }
  }

  get fds(): number[] {
    return this.#fds
  }

  /** The directory itself. */
  get fd(): number {
    return this.#fds[0] ?? -1
  }

  /** Its copy, or what is to become one. */
  get copy(): number {
    return this.#fds[1] ?? -1
  }

  get isOpen(): boolean {
    return this.#identities === undefined
  }

  /** The path inside the vfolder, empty for its root and otherwise ending in `/`. */
  get prefix(): string {
    const names: string[] = []
    let level: Level = this
    for (; level.parent !== undefined; level = level.parent) names.push(level.parent.#readable(level.name))
    return (
      level.#base +
      names
        .reverse()
        .map((name) => name && `${name}/`)
        .join('')
    )
  }

  path(name: string): string {
    return this.prefix + this.#readable(name)
  }

  #readable(name: string): string {
    return this.called ?? toReadable(name)
  }

  /** Gives the descriptors back for a while. */
  suspend(): void {
    if (!this.isOpen) return
    this.#identities = this.#fds.map(identityOf)
    this.#closeAll()
  }

  /** Opens the directory again, as the one that `child` is in, which is only right where nobody moved the child. */
  resume(child: Level): void {
    for (const fd of child.#fds) this.#fds.push(fs.openSync(`${pathOf(fd)}/..`, O_RDONLY | O_DIRECTORY))
    const same = this.#fds.every((fd, index) => identityOf(fd) === this.#identities?.[index])
    if (!same) throw new Restless('a directory was moved while it was worked on')
    this.#identities = undefined
  }

  close(): void {
    this.#more?.return?.()
    this.#closeAll()
  }

  #closeAll(): void {
    for (const fd of this.#fds) fs.closeSync(fd)
    this.#fds = []
  }
}

function identityOf(fd: number): string {
  const { dev, ino } = fs.fstatSync(fd, { bigint: true })
  return `${dev}:${ino}`
}

/** Walks through a tree depth first, not by recursion: users make trees that are deeper than the call stack. */
export function walk(operation: Operation, share: Share, run: Run): void {
  const root = new Level(share.fds, '', share.base, share.called)
  const levels = [root]
  try {
    if (share.names === undefined) root.take(enter(operation, root))
    else root.names = share.names
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      run.check()
      if (run.anotherWaits()) shareWork(levels, run)
      const name = level.next()
      if (name !== undefined) {
        descend(operation, levels, level, name)
        continue
      }
      const parent = level.parent
      if (parent !== undefined && !parent.isOpen) parent.resume(level)
      if (parent !== undefined || share.names === undefined) leave(operation, level, parent)
      levels.pop()
      level.close()
    }
  } finally {
    for (const level of levels) level.close()
  }
}

function descend(operation: Operation, levels: Level[], parent: Level, name: string): void {
  let child: Level
  try {
    const fds = operation.open(parent, name)
    if (fds === undefined) return
    child = new Level(fds, name, parent)
  } catch (error) {
    throw withPath(error, parent.path(name))
  }
  levels.push(child)
  levels.at(-1 - openLevels)?.suspend()
  child.take(enter(operation, child))
}

function enter(operation: Operation, level: Level): Iterable<string> {
  try {
    return operation.enter(level)
  } catch (error) {
    throw withPath(error, level.prefix.slice(0, -1))
  }
}

function leave(operation: Operation, level: Level, parent: Level | undefined): void {
  try {
    operation.leave?.(level, parent)
  } catch (error) {
    throw withPath(error, level.prefix.slice(0, -1))
  }
}

/** Gives half of what is left at the top, where the largest pieces are. */
function shareWork(levels: Level[], run: Run): void {
  const level = levels.find(({ names, isOpen, mayShare }) => isOpen && mayShare && names.length > 1)
  if (level === undefined) return
  run.give(() => ({
    fds: level.fds.map((fd) => fs.openSync(pathOf(fd), O_RDONLY | O_DIRECTORY)),
    names: level.names.splice(0, level.names.length / 2),
    base: level.prefix,
    ...(level.called !== undefined && { called: level.called }),
  }))
}
