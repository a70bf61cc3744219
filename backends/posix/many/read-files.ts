import fs from 'node:fs'
import { BackendError } from '../../errors.ts'
import { etagOf } from '../entry.ts'
import { errnoOf } from '../errno.ts'
import type { Failure } from '../failure.ts'
import { openInsideSync } from '../inside.ts'
import type { Listed } from './messages.ts'

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = fs.constants

/**
 * The errors that tell that the file is gone, or that it or what is above it is now a directory, symlink, socket or
 * FIFO.
 */
const otherKind = new Set(['EISDIR', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EAGAIN'])

class Changed extends Error {}

/** An error, and the file it is about. */
class FileError extends Error {
  readonly path: string

  constructor(path: string, cause: unknown) {
    super(String(cause), { cause })
    this.path = path
  }
}

export function readFiles(root: string, files: Listed[]): ArrayBuffer {
  const bytes = new ArrayBuffer(files.reduce((sum, { size }) => sum + size, 0))
  let start = 0
  for (const file of files) {
    try {
      read(root, file, Buffer.from(bytes, start, file.size))
    } catch (error) {
      throw new FileError(file.path, error)
    }
    start += file.size
  }
  return bytes
}

export function failureOf(error: unknown): Failure {
  const [cause, path] = error instanceof FileError ? [error.cause, error.path] : [error, '']
  const errno = errnoOf(cause)
  const sourceChanged = cause instanceof Changed || otherKind.has(errno ?? '')
  const message = sourceChanged ? `${path} changed after it was listed` : String(cause)
  return { message, path, errno, sourceChanged }
}

function read(root: string, { path, etag }: Listed, into: Buffer): void {
  const fd = openListed(root, path)
  try {
    for (let filled = 0; filled < into.length; ) {
      const bytesRead = fs.readSync(fd, into, filled, into.length - filled, filled)
      if (bytesRead === 0) throw new Changed()
      filled += bytesRead
    }
    // Only now, so that it also tells of a change during the read.
    const stats = fs.fstatSync(fd)
    if (!stats.isFile() || etagOf(stats) !== etag) throw new Changed()
  } finally {
    fs.closeSync(fd)
  }
}

/** A listed file is no symlink, and a path that now leads out of the vfolder no longer leads to it. */
function openListed(root: string, path: string): number {
  try {
    return openInsideSync(root, path.split('/'), O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
  } catch (error) {
    throw error instanceof BackendError ? new Changed() : error
  }
}
