import fs from 'node:fs'
import { gone, ignoreErrors } from '../errno.ts'
import { openStepSync, pathOf } from '../inside.ts'

// The same as `Directory`, but with synchronous system calls and names that may be no UTF-8.

/** The encoding of names: every byte is one character, so that names that are no UTF-8 are kept. */
export const encoding = 'latin1'

// biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII
const ascii = /^[\x00-\x7f]*$/

/** The path of an entry of an open directory. */
export function at(fd: number, name: string): string | Buffer {
  return toRawPath(`${pathOf(fd)}/${name}`)
}

/** A path in `encoding` as system calls take it. */
export function toRawPath(path: string): string | Buffer {
  return ascii.test(path) ? path : Buffer.from(path, encoding)
}

/** The name as people read it. */
export function toReadable(name: string): string {
  return ascii.test(name) ? name : Buffer.from(name, encoding).toString()
}

type Named = Pick<fs.Dirent, 'name' | 'isFile' | 'isDirectory' | 'isSymbolicLink'>

/** The entries of a directory, however many, in constant memory; on NFS in that of their names. */
export function* entriesOf(fd: number, { isNfs = false } = {}): Generator<Named> {
  if (isNfs) return yield* lookedAt(fd)
  const directory = fs.opendirSync(pathOf(fd), { encoding, bufferSize: 256 })
  try {
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) yield entry
  } finally {
    directory.closeSync()
  }
}

/** A server of NFS may tell no kinds, and Node then looks for them under names that must be UTF-8 and still be there. */
function* lookedAt(fd: number): Generator<Named> {
  for (const name of fs.readdirSync(pathOf(fd), { encoding })) {
    const stats = lstat(fd, name)
    if (stats !== undefined) yield Object.assign(stats, { name })
  }
}

export function isEmpty(fd: number): boolean {
  for (const _ of entriesOf(fd)) return false
  return true
}

/** Opens a subdirectory, never through a symlink. */
export function openDirectory(fd: number, name: string): number {
  return openStepSync(at(fd, name))
}

/** Opens a subdirectory of each; undefined where one of them does not have it. */
export function openInEach(fds: number[], name: string): number[] | undefined {
  const opened: number[] = []
  try {
    for (const fd of fds) {
      const own = ignoreErrors(gone, () => openDirectory(fd, name))
      if (own !== undefined) opened.push(own)
    }
    return opened.length === fds.length ? opened.splice(0) : undefined
  } finally {
    for (const fd of opened) fs.closeSync(fd)
  }
}

const orUndefined = { throwIfNoEntry: false } as const

export function lstat(fd: number, name: string): fs.Stats | undefined {
  return fs.lstatSync(at(fd, name), orUndefined)
}
