import type { Stats } from 'node:fs'
import { link, lstat, rename, unlink } from 'node:fs/promises'
import type { Entry, WriteOptions, Written } from '../backend.ts'
import { PreconditionFailed } from '../errors.ts'
import { createDirectories, setOwnership } from './directory.ts'
import { toEntry } from './entry.ts'
import { fstat, fsync, futimes } from './files.ts'
import type { Place } from './layout.ts'

export type PublishOptions = Omit<WriteOptions, 'size'>

/**
 * Flushes what was staged and makes it appear by one atomic step. `fd` is a descriptor of the file; a symlink has none,
 * and neither bytes to flush nor a mode.
 */
export async function publish(
  { ownership, root, names }: Place,
  staging: string,
  fd: number | undefined,
  { signal, ifAbsent, ifMatch, mode = ownership.fileMode, modifiedAt }: PublishOptions,
): Promise<Written> {
  const path = names.join('/')
  if (fd !== undefined) {
    await setOwnership(fd, ownership, mode)
    if (modifiedAt !== undefined) await futimes(fd, modifiedAt, modifiedAt)
    await fsync(fd)
  }
  signal.throwIfAborted()
  const directory = await createDirectories(root, names.slice(0, -1), ownership)
  try {
    const target = directory.at(names[names.length - 1] ?? '')
    const replaced = ifAbsent ? await linkNew(staging, target) : await replace(staging, target, ifMatch)
    await directory.sync()
    const stats = fd === undefined ? await lstat(target) : await fstat(fd)
    return { entry: storedEntry(path, stats), ...(replaced !== undefined && { replaced }) }
  } finally {
    directory.close()
  }
}

/** link(2) fails where the target exists, which rename(2) does not. */
async function linkNew(staging: string, target: string): Promise<undefined> {
  await link(staging, target)
  await unlink(staging)
}

async function replace(staging: string, target: string, ifMatch: string | undefined): Promise<number | undefined> {
  const replaced = await lstat(target).catch(() => undefined)
  if (ifMatch !== undefined && (replaced === undefined || toEntry('', replaced)?.etag !== ifMatch)) {
    throw new PreconditionFailed('the file was changed meanwhile')
  }
  await rename(staging, target)
  return replaced && (replaced.isFile() ? replaced.size : 0)
}

function storedEntry(path: string, stats: Stats): Entry {
  const entry = toEntry(path, stats)
  if (entry === undefined) throw new Error(`a file that was just written has mode ${stats.mode.toString(8)}`)
  return entry
}
