import type { Stats } from 'node:fs'
import { difference, nothing } from '../amount.ts'
import type { Amount, MoveOptions } from '../backend.ts'
import { AlreadyExists, afterChange, InvalidOperation, IsADirectory, NotAFile } from '../errors.ts'
import { createDirectories, type Directory, openDirectory } from './directory.ts'
import { amountOf, toEntry } from './entry.ts'
import { errnoOf, translate, translateErrors } from './errno.ts'
import { link, lstat, mkdir, rename, rmdir, unlink } from './files.ts'
import type { Place } from './layout.ts'
import { refuseMounts } from './mounts.ts'

export function moveEntry(from: Place, to: Place, options: MoveOptions): Promise<Amount> {
  return from.layout.inTurn([from, to], options, () => move(from, to, options))
}

async function move(
  { root: fromRoot, names: from }: Place,
  { root: toRoot, names: to, ownership }: Place,
  options: MoveOptions,
): Promise<Amount> {
  const fromPath = from.join('/')
  const toPath = to.join('/')
  if (fromRoot === toRoot && `${toPath}/`.startsWith(`${fromPath}/`))
    throw new InvalidOperation(`${fromPath} cannot move into itself`)

  const fromParent = await openDirectory(fromRoot, from.slice(0, -1))
  let toParent: Directory | undefined
  try {
    const source = fromParent.at(from[from.length - 1] ?? '')
    const stats = await translateErrors(fromPath, () => lstat(source))
    if (toEntry(fromPath, stats) === undefined) throw new NotAFile(`${fromPath} is a socket, a FIFO or a device`)
    if (stats.isDirectory()) await refuseMounts(fromParent.locationOf(from.at(-1) ?? ''), fromPath)
    const parent = await createDirectories(toRoot, to.slice(0, -1), ownership)
    toParent = parent
    const target = parent.at(to[to.length - 1] ?? '')
    const rename = stats.isDirectory()
      ? renameDirectory(source, target, toPath)
      : options.overwrite
        ? renameOver(source, stats, target, toPath)
        : renameNew(source, target, toPath)
    const replaced = await rename.catch((error) => {
      throw translate(error, subjectOf(errnoOf(error), fromPath, toPath))
    })
    await afterChange(toPath, difference(nothing, replaced), async () => {
      await parent.sync()
      await fromParent.sync()
    })
    return replaced
  } finally {
    fromParent.close()
    toParent?.close()
  }
}

/** What the error of a call with two paths is about; of some it cannot be told. */
function subjectOf(errno: string | undefined, from: string, to: string): string {
  if (errno === 'ENOENT') return from
  return ['EACCES', 'EPERM', 'EXDEV', 'EBUSY'].includes(errno ?? '') ? `${from} or ${to}` : to
}

// rename(2) replaces whatever has the target's name and Node has no RENAME_NOREPLACE. Both ways below take the name
// first, by a call that fails when it is taken; a crash in between loses nothing.

export async function renameDirectory(source: string, target: string, path: string): Promise<Amount> {
  await mkdir(target)
  try {
    await rename(source, target)
  } catch (error) {
    // Somebody has put something into it.
    if (errnoOf(error) === 'ENOTEMPTY') throw new AlreadyExists(`${path} exists already`, { cause: error })
    await rmdir(target).catch(() => {})
    throw error
  }
  return nothing
}

async function renameNew(source: string, target: string, path: string): Promise<Amount> {
  try {
    await link(source, target)
  } catch (error) {
    // A file of another owner may not be linked (fs.protected_hardlinks of proc_sys_fs(5)), nor one that has as many
    // links as can be, only renamed.
    if (!['EPERM', 'EMLINK'].includes(errnoOf(error) ?? '')) throw error
    if (await lstat(target).catch(() => undefined)) throw new AlreadyExists(`${path} exists already`, { cause: error })
    await rename(source, target)
    return nothing
  }
  await unlink(source).catch(async (error) => {
    await unlink(target).catch(() => {})
    throw error
  })
  return nothing
}

async function renameOver(source: string, moved: Stats, target: string, path: string): Promise<Amount> {
  const stats = await lstat(target).catch(() => undefined)
  if (stats?.isDirectory()) throw new IsADirectory(`${path} is a directory`)
  await rename(source, target)
  // rename(2) keeps both of two links to one file.
  if (stats !== undefined && stats.ino === moved.ino && stats.dev === moved.dev) await unlink(source)
  return stats === undefined ? nothing : amountOf(stats)
}
