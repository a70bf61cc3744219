import { basename } from 'node:path'
import { difference, nothing, sum } from '../amount.ts'
import type { Amount, RemoveOptions } from '../backend.ts'
import { afterChange, EntryAccessDenied, NotEmpty, Unconfirmed } from '../errors.ts'
import { encoding } from './bulk/directories.ts'
import type { News } from './bulk/messages.ts'
import { runTask, type TaskOptions } from './bulk/task.ts'
import { type Directory, openDirectory } from './directory.ts'
import { amountOf } from './entry.ts'
import { errnoOf, translateErrors } from './errno.ts'
import { lstat, lutimes, readdir, rename, rmdir, unlink } from './files.ts'
import type { Layout, Place } from './layout.ts'
import { refuseMounts } from './mounts.ts'
import { renameDirectory } from './move.ts'
import { stagingOf } from './places.ts'
import { isSilly } from './silly.ts'

/**
 * How often a tree is walked. Two threads leave each other the directories that they share, and a user who holds one
 * open may go on making entries.
 */
const walks = 10

export async function removeEntry(
  layout: Layout,
  root: string,
  names: string[],
  { recursive, signal, onProgress }: RemoveOptions,
): Promise<Amount> {
  const path = names.join('/')
  const parent = await openDirectory(root, names.slice(0, -1))
  const target = parent.at(names[names.length - 1] ?? '')
  try {
    return await translateErrors(path, async () => {
      const removed = await layout.inTurn([{ root, names }], { signal }, () => unlinkFile(target))
      if (removed === undefined && (recursive || (layout.isNfs && (await hasOnlySilly(target)))))
        return await removeDirectory({ layout, root }, parent, target, path, { signal, onProgress })
      if (removed === undefined) await rmdir(target)
      await afterChange(path, difference(nothing, removed ?? nothing), () => parent.sync())
      return removed ?? nothing
    })
  } finally {
    parent.close()
  }
}

/** Lets a directory vanish. It is removed, and so counted, to the end, though nobody may wait for it any more. */
async function removeDirectory(
  { layout, root }: Pick<Place, 'layout' | 'root'>,
  parent: Directory,
  target: string,
  path: string,
  { signal, onProgress = () => {} }: Pick<RemoveOptions, 'signal' | 'onProgress'>,
): Promise<Amount> {
  await refuseMounts(parent.locationOf(basename(target)), path)
  signal.throwIfAborted()
  const place = stagingOf(root)
  const staging = layout.newStaging(place)
  const isAside = await rename(target, staging).then(() => true, unlessFull)
  if (!isAside) return removeInPlace(parent, basename(target), path, { onProgress, isNfs: layout.isNfs })
  try {
    // An old directory must not be taken for a dead writer's while it is being removed.
    await lutimes(staging, new Date(), new Date())
    const syncing = parent.sync()
    syncing.catch(() => {}) // Awaited in its turn.
    const signal = new AbortController().signal
    const options = { signal, onProgress, isNfs: layout.isNfs, called: path }
    const gone = await removeTrees(place, [basename(staging)], options)
    await syncing
    return gone
  } catch (cause) {
    // Nobody could ever free what is denied; where it was, its owner sees what is left of it.
    if (cause instanceof EntryAccessDenied && (await isPutBack(staging, target, path))) throw cause
    // What was told of the progress counts.
    throw new Unconfirmed(path, nothing, { cause })
  }
}

/** @returns false where somebody has the name by now, or the storage fails */
async function isPutBack(staging: string, target: string, path: string): Promise<boolean> {
  return renameDirectory(staging, target, path).then(
    () => true,
    () => false,
  )
}

/** @returns that a new name is more than the storage has room for */
function unlessFull(error: unknown): boolean {
  if (!['EDQUOT', 'ENOSPC'].includes(errnoOf(error) ?? '')) throw error
  return false
}

/** The way for a storage that is full: a removal is what makes room again. */
async function removeInPlace(
  parent: Directory,
  name: string,
  path: string,
  { onProgress, isNfs }: { onProgress: (done: Amount) => void; isNfs: boolean },
): Promise<Amount> {
  const { signal } = new AbortController()
  try {
    const options = { signal, onProgress, isNfs, called: path }
    const gone = await removeFrom(parent, [Buffer.from(name).toString(encoding)], options)
    await parent.sync()
    return gone
  } catch (cause) {
    // What is left of it is where it was.
    if (cause instanceof EntryAccessDenied) throw cause
    throw new Unconfirmed(path, nothing, { cause })
  }
}

/** Whether a directory is empty but for files that are open on NFS. */
async function hasOnlySilly(directory: string): Promise<boolean> {
  return (await readdir(directory)).every(isSilly)
}

/** @returns undefined when it is a directory */
async function unlinkFile(target: string): Promise<Amount | undefined> {
  const stats = await lstat(target)
  if (stats.isDirectory()) return undefined
  await unlink(target)
  return amountOf(stats)
}

interface RemovalOptions extends TaskOptions {
  /** Files that are open, and the directories that they are in, are left. */
  isNfs?: boolean
  /** How errors call each of the trees; absent: by its name. */
  called?: string
}

/**
 * Removes files or trees of a directory of the layout that nobody else can reach any more, and counts what was in them.
 */
export async function removeTrees(directory: string, names: string[], options: RemovalOptions): Promise<Amount> {
  if (names.length === 0) return nothing
  const parent = await openDirectory(directory, [])
  try {
    return await removeFrom(parent, names, options)
  } finally {
    parent.close()
  }
}

async function removeFrom(
  parent: Directory,
  names: string[],
  { onProgress, signal, isNfs = false, called }: RemovalOptions,
): Promise<Amount> {
  const total = { files: 0, bytes: 0 }
  for (let walk = 0; walk < walks; walk++) {
    const share = { fds: [parent.fd], names, base: '', ...(called !== undefined && { called }) }
    const options = { signal, onProgress: onProgress && ((done: Amount) => onProgress(sum(total, done))) }
    const news: News = await runTask({ kind: 'remove', isNfs }, share, options)
    Object.assign(total, sum(total, news))
    if (news.left === 0) return total
  }
  if (isNfs) return total
  throw new NotEmpty('entries were made in a directory while it was removed')
}

/**
 * Removes from a directory what its copy has; see `bulk/remove-copied.ts`. It is done to the end.
 * @returns whether nothing is left in it
 */
export async function removeCopied(source: Directory, copy: Directory): Promise<boolean> {
  const { signal } = new AbortController()
  let left = Number.POSITIVE_INFINITY
  for (let walk = 0; walk < walks; walk++) {
    const news = await runTask({ kind: 'remove-copied' }, { fds: [source.fd, copy.fd], base: '' }, { signal })
    // Threads leave each other the directories that they share.
    if (news.left === 0 || (news.files === 0 && news.left >= left)) return news.left === 0
    left = news.left
  }
  return false
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await openDirectory(path, [])
  try {
    await directory.sync()
  } finally {
    directory.close()
  }
}
