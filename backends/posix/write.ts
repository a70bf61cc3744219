import fs from 'node:fs'
import { copyFile, lstat, readlink, rm, symlink } from 'node:fs/promises'
import type { CopyOptions, WriteOptions, Written } from '../backend.ts'
import { IsADirectory, NotAFile, SizeMismatch } from '../errors.ts'
import { openDirectory } from './directory.ts'
import { translateErrors } from './errno.ts'
import { close, fstat, open } from './files.ts'
import { pathOf } from './inside.ts'
import type { Place } from './layout.ts'
import { type PublishOptions, publish } from './publish.ts'
import { store } from './store.ts'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY, COPYFILE_EXCL, COPYFILE_FICLONE } = fs.constants

export async function writeFile(place: Place, source: AsyncIterable<Buffer>, options: WriteOptions): Promise<Written> {
  return stage(place, options, async (staging) => {
    const fd = await open(staging, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    try {
      const { size, signal } = options
      const stored = await store(fd, source, { signal, ...(size !== undefined && { maxBytes: size }) })
      if (size !== undefined && stored !== size) throw new SizeMismatch(`${stored} bytes came instead of ${size}`)
      return fd
    } catch (error) {
      close(fd)
      throw error
    }
  })
}

/**
 * Copies by reflink where the filesystem can share blocks, otherwise inside the kernel (copy_file_range(2)). A symlink
 * is copied as the symlink that it is.
 */
export async function copyEntry({ root, names: from }: Place, place: Place, options: CopyOptions): Promise<Written> {
  const fromPath = from.join('/')
  const parent = await openDirectory(root, from.slice(0, -1))
  try {
    const source = parent.at(from[from.length - 1] ?? '')
    const stats = await translateErrors(fromPath, () => lstat(source))
    if (stats.isDirectory()) throw new IsADirectory(`${fromPath} is a directory`)
    if (stats.isSymbolicLink()) return await copySymlink(place, source, options)
    return await copyContents(place, source, options)
  } finally {
    parent.close()
  }
}

async function copyContents(place: Place, source: string, options: CopyOptions): Promise<Written> {
  return stage(place, options, async (staging) => {
    const fd = await open(source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    try {
      if (!(await fstat(fd)).isFile()) throw new NotAFile('the source is a socket, a FIFO or a device')
      await copyFile(pathOf(fd), staging, COPYFILE_FICLONE | COPYFILE_EXCL)
    } finally {
      close(fd)
    }
    return open(staging, O_RDONLY)
  })
}

async function copySymlink(place: Place, source: string, options: CopyOptions): Promise<Written> {
  return createSymlink(place, await readlink(source), options)
}

export async function createSymlink(place: Place, target: string, options: PublishOptions): Promise<Written> {
  return stage(place, options, async (staging) => {
    await symlink(target, staging)
    return undefined
  })
}

/**
 * Lets `fill` make a file in the staging place, flushes it, and makes it appear by one atomic step. `fill` gives a
 * descriptor of the file; a symlink has none, and neither bytes to flush nor a mode.
 */
async function stage(
  place: Place,
  options: PublishOptions,
  fill: (staging: string) => Promise<number | undefined>,
): Promise<Written> {
  const staging = place.layout.newStaging()
  return translateErrors(place.names.join('/'), async () => {
    let fd: number | undefined
    try {
      fd = await fill(staging)
      return await publish(place, staging, fd, options)
    } catch (error) {
      await rm(staging, { force: true })
      throw error
    } finally {
      if (fd !== undefined) close(fd)
    }
  })
}
