import fs from 'node:fs'
import type { CopyOptions, WriteOptions, Written } from '../backend.ts'
import { IsADirectory, NotAFile, SizeMismatch, SourceChanged } from '../errors.ts'
import { gather } from '../gather.ts'
import { openDirectory } from './directory.ts'
import { etagOf } from './entry.ts'
import { errnoOf, translate, translateErrors } from './errno.ts'
import { close, copyFile, fchown, fstat, lstat, open, readlink, removeFile, symlink, unlink } from './files.ts'
import { pathOf } from './inside.ts'
import type { Place } from './layout.ts'
import { stagingOf } from './places.ts'
import { type PublishOptions, publish } from './publish.ts'
import { type createSmallFileWriter, smallWriteBytes } from './small-writes/index.ts'
import { translateStaging } from './staging.ts'
import { store } from './store.ts'

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY, COPYFILE_EXCL, COPYFILE_FICLONE } = fs.constants

/** Not those that would give rights of another owner. */
const permissions = 0o777
/** How often a file is copied that somebody writes to. */
const copyAttempts = 4
/** Bytes that come slowly wait in the staging place: the cleanup tells a slow upload from a dead one by its last write. */
const patienceMilliseconds = 50

export type SmallFileWriter = ReturnType<typeof createSmallFileWriter>

/** What a copy keeps of its source when it stands for it. */
type Kept = Pick<WriteOptions, 'mode' | 'modifiedAt'>

/** A small file takes one trip to a thread, and whatever is not that simple the usual way. */
export async function writeFile(
  place: Place,
  source: AsyncIterable<Buffer>,
  options: WriteOptions,
  writeSmall: SmallFileWriter,
): Promise<Written> {
  const { size = 0, signal, ifMatch, modifiedAt } = options
  const isSimple = ifMatch === undefined && modifiedAt === undefined && !place.ownership.extended
  if (size > smallWriteBytes || !isSimple) {
    return writeStream(place, source, options)
  }
  const chunks = source[Symbol.asyncIterator]()
  try {
    const gathered = await gather(chunks, { most: smallWriteBytes, patienceMilliseconds })
    signal.throwIfAborted()
    if (gathered.kind === 'begun') return await writeStream(place, gathered.chunks, options)
    const { content } = gathered
    const isWhole = options.size === undefined || options.size === content.length
    const stored = isWhole ? await writeSmall(place, content, options) : undefined
    return stored ?? (await writeStream(place, [content], options))
  } finally {
    await chunks.return?.()
  }
}

function writeStream(
  place: Place,
  source: AsyncIterable<Buffer> | Iterable<Buffer>,
  options: WriteOptions,
): Promise<Written> {
  return stage(place, options, async (staging) => {
    const fd = await createStaged(place, staging)
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

function createStaged({ root }: Place, staging: string): Promise<number> {
  return translateStaging(root, 'the staging place', () => open(staging, O_WRONLY | O_CREAT | O_EXCL, 0o600))
}

/**
 * Copies by reflink where the filesystem can share blocks, otherwise inside the kernel (copy_file_range(2)). A symlink
 * is copied as the symlink that it is.
 */
export async function copyEntry(
  { root, names: from }: Place,
  place: Place,
  options: CopyOptions & Kept,
): Promise<Written> {
  const fromPath = from.join('/')
  const parent = await openDirectory(root, from.slice(0, -1))
  try {
    const source = parent.at(from[from.length - 1] ?? '')
    const stats = await translateErrors(fromPath, () => lstat(source))
    if (stats.isDirectory()) throw new IsADirectory(`${fromPath} is a directory`)
    const copySource = stats.isSymbolicLink() ? copySymlink : copyContents
    return await copySource(place, { location: source, path: fromPath }, options)
  } finally {
    parent.close()
  }
}

interface Source {
  location: string
  /** Inside the vfolder. */
  path: string
}

async function copyContents(place: Place, { location, path }: Source, options: PublishOptions): Promise<Written> {
  const fd = await open(location, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(failWith(path))
  try {
    const modeOfNew = (await fstat(fd)).mode & permissions
    return await stage(place, { ...options, modeOfNew }, async (staging) => {
      await copyAtRest(fd, path, staging)
      const copy = await open(staging, O_RDONLY)
      return own(copy)
    })
  } finally {
    close(fd)
  }
}

/** @throws {SourceChanged} when somebody writes to the file each time it is copied: a copy would be of no moment */
async function copyAtRest(fd: number, path: string, staging: string): Promise<void> {
  for (let attempt = 0; attempt < copyAttempts; attempt++) {
    const before = await fstat(fd)
    if (!before.isFile()) throw new NotAFile(`${path} is not a file`)
    await copyFile(pathOf(fd), staging, COPYFILE_FICLONE | COPYFILE_EXCL)
    const after = await fstat(fd)
    if (etagOf(before) === etagOf(after) && before.mtimeMs === after.mtimeMs) return
    await unlink(staging)
  }
  throw new SourceChanged(`${path} changed each time it was copied`)
}

/** A copy is a new file, but Node gives it the owner of its source, where it may. */
async function own(fd: number): Promise<number> {
  const [uid, gid] = [process.geteuid?.() ?? -1, process.getegid?.() ?? -1]
  try {
    const stats = await fstat(fd)
    if (stats.uid !== uid || stats.gid !== gid) await fchown(fd, uid, gid)
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

async function copySymlink(place: Place, { location, path }: Source, options: PublishOptions): Promise<Written> {
  return createSymlink(place, await readlink(location).catch(failWith(path)), options)
}

/** An entry that is of another kind by now (readlink(2), EINVAL; open(2), ELOOP) has changed. */
function failWith(path: string): (error: unknown) => never {
  return (error) => {
    const errno = errnoOf(error) ?? ''
    if (['EINVAL', 'ELOOP'].includes(errno)) throw new SourceChanged(`${path} was replaced while it was copied`)
    throw translate(error, path)
  }
}

export async function createSymlink(place: Place, target: string, options: PublishOptions): Promise<Written> {
  return stage(place, options, async (staging) => {
    await translateStaging(place.root, 'the staging place', () => symlink(target, staging))
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
  const staging = place.layout.newStaging(stagingOf(place.root))
  return translateErrors(place.names.join('/'), async () => {
    let fd: number | undefined
    try {
      fd = await fill(staging)
      return await publish(place, staging, fd, options)
    } catch (error) {
      // When that fails too, the first error is the one to tell, and the cleanup removes what is left.
      await removeFile(staging).catch(() => {})
      throw error
    } finally {
      if (fd !== undefined) close(fd)
    }
  })
}
