import { link, lstat, mkdir, rename, rmdir, unlink } from 'node:fs/promises'
import type { MoveOptions, Removed } from '../backend.ts'
import { AlreadyExists, InvalidOperation, IsADirectory } from '../errors.ts'
import { createDirectories, type Directory, type Ownership, openDirectory } from './directory.ts'
import { translated } from './errno.ts'

export async function moveEntry(
  root: string,
  ownership: Ownership,
  from: string[],
  to: string[],
  options: MoveOptions,
): Promise<Removed> {
  const fromPath = from.join('/')
  const toPath = to.join('/')
  if (`${toPath}/`.startsWith(`${fromPath}/`)) throw new InvalidOperation(`${fromPath} cannot move into itself`)

  const fromParent = await openDirectory(root, from.slice(0, -1))
  let toParent: Directory | undefined
  try {
    const source = fromParent.at(from[from.length - 1] ?? '')
    const stats = await translated(fromPath, () => lstat(source))
    const parent = await createDirectories(root, to.slice(0, -1), ownership)
    toParent = parent
    const target = parent.at(to[to.length - 1] ?? '')
    return await translated(toPath, async () => {
      const replaced = stats.isDirectory()
        ? await renameDirectory(source, target, toPath)
        : options.overwrite
          ? await renameOver(source, target, toPath)
          : await renameNew(source, target)
      await parent.sync()
      await fromParent.sync()
      return replaced
    })
  } finally {
    fromParent.close()
    toParent?.close()
  }
}

const nothing: Removed = { files: 0, bytes: 0 }

// rename(2) replaces whatever has the target's name and Node has no RENAME_NOREPLACE. Both ways below take the name
// first, by a call that fails when it is taken; a crash in between loses nothing.

async function renameDirectory(source: string, target: string, path: string): Promise<Removed> {
  await mkdir(target)
  try {
    await rename(source, target)
  } catch (error) {
    await rmdir(target).catch(() => {
      throw new AlreadyExists(`${path} exists already`, { cause: error })
    })
    throw error
  }
  return nothing
}

async function renameNew(source: string, target: string): Promise<Removed> {
  await link(source, target)
  await unlink(source)
  return nothing
}

async function renameOver(source: string, target: string, path: string): Promise<Removed> {
  const stats = await lstat(target).catch(() => undefined)
  if (stats?.isDirectory()) throw new IsADirectory(`${path} is a directory`)
  await rename(source, target)
  return stats === undefined ? nothing : { files: 1, bytes: stats.isFile() ? stats.size : 0 }
}
