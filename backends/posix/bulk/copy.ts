import fs from 'node:fs'
import { errnoOf, ignoreErrors } from '../errno.ts'
import { pathOf } from '../inside.ts'
import { at } from './directories.ts'

const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE, O_CREAT, O_EXCL, O_WRONLY } = fs.constants

/** Up to this size a file is copied by one call, which cannot be interrupted. */
const oneCallBytes = 16 * 1024 * 1024
const chunkBytes = 1024 * 1024
/** Holes are kept in pieces of this size; the block size of most filesystems divides it. */
const holeBytes = 64 * 1024

/** The filesystem shares no blocks at all, and so will not for the next file (ioctl_ficlone(2)). */
const neverShares = ['EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'ENOSYS', 'EXDEV']
/** This file cannot share blocks, such as one that is in the inode. */
const doesNotShare = [...neverShares, 'EINVAL', 'EPERM', 'EBADF', 'ETXTBSY']

const permissions = 0o7777
const setId = 0o6000
const zeros = Buffer.alloc(holeBytes)

/** Copies files. */
export class Copier {
  readonly #onChunk: (bytes: number) => void
  readonly #oneCallBytes: number
  #shares = true
  #chunk: Buffer | undefined

  /** @param onChunk is told of every chunk of a file that is copied in chunks, and throws when it is time to stop */
  constructor(onChunk: (bytes: number) => void, { isNfs = false } = {}) {
    this.#onChunk = onChunk
    // The server copies a whole file by itself (copy_file_range(2)), which no interruption is worth.
    this.#oneCallBytes = isNfs ? Number.POSITIVE_INFINITY : oneCallBytes
  }

  /** Copies an open file to a name that is free, sharing its blocks where the filesystem can. */
  copy(source: number, stats: fs.Stats, directory: number, name: string): void {
    const target = at(directory, name)
    if (stats.size > 0 && this.#share(source, target)) return
    const sparse = stats.blocks * 512 < stats.size
    if (stats.size <= this.#oneCallBytes && !sparse) fs.copyFileSync(pathOf(source), target, COPYFILE_EXCL)
    else this.#copyChunks(source, stats, target)
  }

  #share(source: number, target: string | Buffer): boolean {
    if (!this.#shares) return false
    try {
      fs.copyFileSync(pathOf(source), target, COPYFILE_EXCL | COPYFILE_FICLONE_FORCE)
      return true
    } catch (error) {
      const errno = errnoOf(error) ?? ''
      if (!doesNotShare.includes(errno)) throw error
      if (neverShares.includes(errno)) this.#shares = false
      ignoreErrors(['ENOENT'], () => fs.unlinkSync(target))
      return false
    }
  }

  #copyChunks(source: number, { size, mode }: fs.Stats, target: string | Buffer): void {
    this.#chunk ??= Buffer.allocUnsafeSlow(chunkBytes)
    const fd = fs.openSync(target, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    try {
      for (let position = 0; position < size; ) {
        const length = fs.readSync(source, this.#chunk, 0, chunkBytes, position)
        if (length === 0) break
        writeWithHoles(fd, this.#chunk.subarray(0, length), position)
        position += length
        this.#onChunk(length)
      }
      fs.ftruncateSync(fd, size)
      fs.fchmodSync(fd, mode & permissions)
    } finally {
      fs.closeSync(fd)
    }
  }
}

/** Writes all but the pieces that are zero. */
function writeWithHoles(fd: number, chunk: Buffer, position: number): void {
  for (let start = 0; start < chunk.length; ) {
    let end = start
    while (end < chunk.length && !isZero(chunk, end)) end += holeBytes
    writeFully(fd, chunk.subarray(start, end), position + start)
    start = Math.max(end, start)
    while (start < chunk.length && isZero(chunk, start)) start += holeBytes
  }
}

function isZero(chunk: Buffer, start: number): boolean {
  const end = Math.min(start + holeBytes, chunk.length)
  return chunk.compare(zeros, 0, end - start, start, end) === 0
}

function writeFully(fd: number, bytes: Buffer, position: number): void {
  for (let written = 0; written < bytes.length; ) {
    written += fs.writeSync(fd, bytes, written, bytes.length - written, position + written)
  }
}

/** Gives an entry that is no directory the owner, mode and modification time of another; the time last. */
export function setAttributes(directory: number, name: string, stats: fs.Stats): void {
  const path = at(directory, name)
  const owned = tryChown(() => fs.lchownSync(path, stats.uid, stats.gid))
  if (!stats.isSymbolicLink() && (stats.mode & setId) !== 0) {
    // A change of owner takes these bits away, and without it they would give rights of another owner.
    fs.chmodSync(path, stats.mode & (owned ? permissions : permissions & ~setId))
  }
  fs.lutimesSync(path, stats.atimeMs / 1000, stats.mtimeMs / 1000)
}

/** The same for an open directory. */
export function setDirectoryAttributes(fd: number, stats: fs.Stats, mode: number): void {
  tryChown(() => fs.fchownSync(fd, stats.uid, stats.gid))
  fs.fchmodSync(fd, mode & permissions)
  fs.futimesSync(fd, stats.atimeMs / 1000, stats.mtimeMs / 1000)
}

/** Only root may give files away. */
function tryChown(chown: () => void): boolean {
  try {
    chown()
    return true
  } catch (error) {
    if (errnoOf(error) !== 'EPERM') throw error
    return false
  }
}
