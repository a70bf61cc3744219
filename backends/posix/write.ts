import fs from 'node:fs'
import { copyFile, link, lstat, readlink, rename, rm, symlink, unlink } from 'node:fs/promises'
import type { CopyOptions, Entry, WriteOptions, Written } from '../backend.ts'
import { IsADirectory, NotAFile, SizeMismatch } from '../errors.ts'
import { createDirectories, type Directory, openDirectory, setOwnership } from './directory.ts'
import { toEntry } from './entry.ts'
import { translated } from './errno.ts'
import { close, fstat, fsync, futimes, open, writev } from './files.ts'
import type { Place } from './layout.ts'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY, COPYFILE_EXCL, COPYFILE_FICLONE } = fs.constants

/** Chunks as they come from a socket are gathered to this size before they are written. */
const gatherBytes = 1024 * 1024
/** But not for longer than this: by the time of its last write the cleanup tells a slow upload from a dead one. */
const gatherMilliseconds = 1000

type StageOptions = Omit<WriteOptions, 'size'>

export async function writeFile(place: Place, source: AsyncIterable<Buffer>, options: WriteOptions): Promise<Written> {
  return stage(place, options, async (staging) => {
    const fd = await open(staging, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    try {
      await store(fd, source, options)
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
    const stats = await translated(fromPath, () => lstat(source))
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
      await copyFile(`/proc/self/fd/${fd}`, staging, COPYFILE_FICLONE | COPYFILE_EXCL)
    } finally {
      close(fd)
    }
    return open(staging, O_RDONLY)
  })
}

async function copySymlink(place: Place, source: string, options: CopyOptions): Promise<Written> {
  return createSymlink(place, await readlink(source), options)
}

export async function createSymlink(place: Place, target: string, options: StageOptions): Promise<Written> {
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
  { layout, ownership, root, names }: Place,
  { signal, ifAbsent, mode = ownership.fileMode, modifiedAt }: StageOptions,
  fill: (staging: string) => Promise<number | undefined>,
): Promise<Written> {
  const path = names.join('/')
  const staging = layout.newStaging()
  return translated(path, async () => {
    let fd: number | undefined
    let directory: Directory | undefined
    try {
      fd = await fill(staging)
      if (fd !== undefined) {
        await setOwnership(fd, ownership, mode)
        if (modifiedAt !== undefined) await futimes(fd, modifiedAt, modifiedAt)
        await fsync(fd)
      }
      signal.throwIfAborted()
      directory = await createDirectories(root, names.slice(0, -1), ownership)
      const target = directory.at(names[names.length - 1] ?? '')
      const replaced = ifAbsent ? await linkNew(staging, target) : await replace(staging, target)
      await directory.sync()
      const stats = fd === undefined ? await lstat(target) : await fstat(fd)
      return { entry: storedEntry(path, stats), ...(replaced !== undefined && { replaced }) }
    } catch (error) {
      await rm(staging, { force: true })
      throw error
    } finally {
      directory?.close()
      if (fd !== undefined) close(fd)
    }
  })
}

/** link(2) fails where the target exists, which rename(2) does not. */
async function linkNew(staging: string, target: string): Promise<undefined> {
  await link(staging, target)
  await unlink(staging)
}

async function replace(staging: string, target: string): Promise<number | undefined> {
  const replaced = await lstat(target).catch(() => undefined)
  await rename(staging, target)
  return replaced && (replaced.isFile() ? replaced.size : 0)
}

function storedEntry(path: string, stats: fs.Stats): Entry {
  const entry = toEntry(path, stats)
  if (entry === undefined) throw new Error(`a file that was just written has mode ${stats.mode.toString(8)}`)
  return entry
}

async function store(fd: number, source: AsyncIterable<Buffer>, { size, signal }: WriteOptions): Promise<void> {
  let chunks: Buffer[] = []
  let gathered = 0
  let stored = 0
  let flushedAt = performance.now()

  const flush = async () => {
    await writeFully(fd, chunks, stored)
    stored += gathered
    chunks = []
    gathered = 0
    flushedAt = performance.now()
  }

  for await (const chunk of source) {
    signal.throwIfAborted()
    chunks.push(chunk)
    gathered += chunk.length
    if (size !== undefined && stored + gathered > size) throw new SizeMismatch(`more than ${size} bytes came`)
    if (gathered >= gatherBytes || performance.now() - flushedAt > gatherMilliseconds) await flush()
  }
  signal.throwIfAborted()
  if (gathered > 0) await flush()
  if (size !== undefined && stored !== size) throw new SizeMismatch(`${stored} bytes came instead of ${size}`)
}

/** writev(2) may store less than it was given. */
async function writeFully(fd: number, chunks: Buffer[], position: number): Promise<void> {
  let rest = chunks
  let at = position
  while (rest.length > 0) {
    const { bytesWritten } = await writev(fd, rest, at)
    at += bytesWritten
    rest = withoutFirst(rest, bytesWritten)
  }
}

function withoutFirst(chunks: Buffer[], bytes: number): Buffer[] {
  let skip = bytes
  const index = chunks.findIndex((chunk) => {
    if (skip < chunk.length) return true
    skip -= chunk.length
    return false
  })
  const first = chunks[index]
  return first === undefined ? [] : [first.subarray(skip), ...chunks.slice(index + 1)]
}
