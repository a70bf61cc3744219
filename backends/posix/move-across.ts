import type { Stats } from 'node:fs'
import { difference, nothing } from '../amount.ts'
import type { Amount, MoveOptions } from '../backend.ts'
import { afterChange } from '../errors.ts'
import { copyTree } from './copy-tree.ts'
import { openDirectory } from './directory.ts'
import { etagOf } from './entry.ts'
import { errnoOf, translateErrors } from './errno.ts'
import { lstat, rmdir, unlink } from './files.ts'
import type { Place } from './layout.ts'
import { moveEntry } from './move.ts'
import { hasOwnPlaces, scopeOf } from './places.ts'
import { removeCopied } from './remove.ts'
import { copyEntry } from './write.ts'

/**
 * Moves an entry. Where each vfolder, or scope, has places of its own, the kernel may refuse to rename from one to the other; then
 * the entry is copied, by shared blocks where the filesystem has them, appears whole, and what was copied is removed from
 * where it was.
 */
export async function moveAcross(from: Place, to: Place, options: MoveOptions): Promise<Amount> {
  try {
    return await moveEntry(from, to, options)
  } catch (error) {
    if (from.root === to.root || !mayBeLimited(to.root) || !isOtherDevice(error)) throw error
    return copyAndRemove(from, to, options)
  }
}

function mayBeLimited(root: string): boolean {
  return hasOwnPlaces(root) || scopeOf(root) !== undefined
}

function isOtherDevice(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && 'code' in cause && cause.code === 'EXDEV'
}

async function copyAndRemove(from: Place, to: Place, options: MoveOptions): Promise<Amount> {
  const { signal, overwrite = false } = options
  const path = from.names.join('/')
  const stats = await lstatOf(from)
  if (stats.isDirectory()) {
    const copied = await copyTree(from, to, { signal, admit: async () => {} })
    await afterChange(path, copied, () => removeTree(from, to, options))
    return nothing
  }
  const kept = { mode: stats.mode & 0o7777, modifiedAt: stats.mtime }
  const { entry, replaced } = await copyEntry(from, to, { signal, ifAbsent: !overwrite, ...kept })
  const gone = replaced === undefined ? nothing : { files: 1, bytes: replaced }
  const arrived = { files: 1, bytes: entry.type === 'file' ? entry.size : 0 }
  await afterChange(path, difference(arrived, gone), () => removeFile(from, stats, options))
  return gone
}

// What users stored there since it was copied is theirs: it stays, as if it had come after the move.

async function removeTree(from: Place, to: Place, { onResume }: MoveOptions): Promise<void> {
  const parent = await openDirectory(from.root, from.names.slice(0, -1))
  try {
    const name = from.names.at(-1) ?? ''
    const source = await parent.openChild(name)
    const copy = await openDirectory(to.root, to.names)
    const isEmpty = await removeCopied(source, copy).finally(() => {
      source.close()
      copy.close()
    })
    const isGone = isEmpty && (await rmdir(parent.at(name)).then(() => true, unlessNotEmpty))
    if (!isGone) onResume?.()
    await parent.sync()
  } finally {
    parent.close()
  }
}

/** @returns that it is not gone */
function unlessNotEmpty(error: unknown): boolean {
  if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error
  return false
}

async function removeFile(from: Place, copied: Stats, { signal, onResume }: MoveOptions): Promise<void> {
  const parent = await openDirectory(from.root, from.names.slice(0, -1))
  try {
    const location = parent.at(from.names.at(-1) ?? '')
    await from.layout.inTurn([from], { signal }, async () => {
      if (etagOf(await lstat(location)) === etagOf(copied)) await unlink(location)
      else onResume?.()
    })
    await parent.sync()
  } finally {
    parent.close()
  }
}

async function lstatOf({ root, names }: Place) {
  const parent = await openDirectory(root, names.slice(0, -1))
  try {
    return await translateErrors(names.join('/'), () => lstat(parent.at(names.at(-1) ?? '')))
  } finally {
    parent.close()
  }
}
