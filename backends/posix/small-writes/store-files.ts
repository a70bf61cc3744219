import fs from 'node:fs'
import type { Amount } from '../../backend.ts'
import { amountOf } from '../entry.ts'
import { errnoOf } from '../errno.ts'
import { openInsideSync, pathOf } from '../inside.ts'
import { keepSync } from '../kept.ts'
import { largeBytes } from '../publish.ts'
import type { FromThread, SmallWrite, ToThread } from './messages.ts'

const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_WRONLY } = fs.constants

/**
 * The same steps as of `publish`, for several files; those that appear in one directory share its flush. A file whose
 * steps are not that simple, or fail, stays undone.
 */
export function storeFiles({ files, content }: ToThread, answer: (answer: FromThread) => void): void {
  const directories = new Directories()
  const fds: number[] = []
  let start = 0
  try {
    const appeared = files
      .map((file) => {
        const bytes = new Uint8Array(content, start, file.size)
        start += file.size
        return unlessItFails(() => {
          const fd = stage(file, bytes)
          fds.push(fd)
          return { file, fd }
        })
      })
      .map((staged) => staged && unlessItFails(() => ({ fd: staged.fd, ...appear(staged, directories) })))
    answer({
      kind: 'appeared',
      files: appeared.map((one) => one && { attributes: attributesOf(one.fd), replaced: one.replaced }),
    })
    const failures = directories.flush()
    answer({ kind: 'flushed', failures: appeared.map((one) => one && failures.get(one.directory)) })
  } finally {
    for (const fd of fds) fs.closeSync(fd)
    directories.close()
  }
}

function unlessItFails<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}

function stage({ staging, size, mode, uid, gid }: SmallWrite, bytes: Uint8Array): number {
  const fd = fs.openSync(staging, O_WRONLY | O_CREAT | O_EXCL, 0o600)
  try {
    for (let written = 0; written < size; ) written += fs.writeSync(fd, bytes, written)
    if (uid !== undefined || gid !== undefined) fs.fchownSync(fd, uid ?? -1, gid ?? -1)
    fs.fchmodSync(fd, mode)
    fs.fsyncSync(fd)
    return fd
  } catch (error) {
    fs.closeSync(fd)
    fs.unlinkSync(staging)
    throw error
  }
}

interface Appearance {
  /** Of its directory. */
  directory: number
  replaced: Amount | undefined
}

function appear({ file, fd }: { file: SmallWrite; fd: number }, directories: Directories): Appearance {
  const { root, names, staging, ifAbsent, hasMode } = file
  try {
    const directory = directories.open(root, names.slice(0, -1))
    const prepare = (replaced?: fs.Stats) => {
      const attributes = replaced?.isFile() ? undefined : directories.attributesOf(directory)
      keepSync(fd, { replaced, directory: attributes, hasMode })
    }
    const target = `${pathOf(directory)}/${names.at(-1)}`
    if (ifAbsent) {
      prepare()
      linkNew(staging, target)
      directories.changed(directory)
      unlessItFails(() => fs.unlinkSync(staging))
      return { directory, replaced: undefined }
    }
    const replaced = fs.lstatSync(target, { throwIfNoEntry: false })
    if (replaced !== undefined && replaced.size >= largeBytes) throw new Error('it takes long to free')
    prepare(replaced)
    fs.renameSync(staging, target)
    directories.changed(directory)
    return { directory, replaced: replaced && amountOf(replaced) }
  } catch (error) {
    unlessItFails(() => fs.unlinkSync(staging))
    throw error
  }
}

/** See `linkNew` of `publish`. */
function linkNew(staging: string, target: string): void {
  try {
    fs.linkSync(staging, target)
  } catch (error) {
    const [staged, there] = [fs.lstatSync(staging), fs.lstatSync(target)]
    if (errnoOf(error) !== 'EEXIST' || staged.dev !== there.dev || staged.ino !== there.ino) throw error
  }
}

function attributesOf(fd: number) {
  const { mode, size, ino, mtimeMs, ctimeMs } = fs.fstatSync(fd)
  return { mode, size, ino, mtimeMs, ctimeMs }
}

/** The directories of one trip, each opened once. */
class Directories {
  readonly #fds = new Map<string, number>()
  readonly #attributes = new Map<number, fs.Stats>()
  readonly #changed = new Set<number>()

  /** Never creates one. */
  open(root: string, names: string[]): number {
    const path = [root, ...names].join('/')
    const known = this.#fds.get(path)
    if (known !== undefined) return known
    const fd = openInsideSync(root, names, O_RDONLY | O_DIRECTORY)
    this.#fds.set(path, fd)
    return fd
  }

  attributesOf(fd: number): fs.Stats {
    const attributes = this.#attributes.get(fd) ?? fs.fstatSync(fd)
    this.#attributes.set(fd, attributes)
    return attributes
  }

  changed(fd: number): void {
    this.#changed.add(fd)
  }

  /** Gives why some of them could not be flushed. */
  flush(): Map<number, string> {
    const failures = new Map<number, string>()
    for (const fd of this.#changed) {
      try {
        fs.fsyncSync(fd)
      } catch (error) {
        failures.set(fd, String(error))
      }
    }
    return failures
  }

  close(): void {
    for (const fd of this.#fds.values()) fs.closeSync(fd)
  }
}
