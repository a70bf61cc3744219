import { difference, nothing } from '../amount.ts'
import type { Amount, MoveOptions } from '../backend.ts'
import { afterChange } from '../errors.ts'
import { copyTree } from './copy-tree.ts'
import { openDirectory } from './directory.ts'
import { translateErrors } from './errno.ts'
import { lstat } from './files.ts'
import type { Place } from './layout.ts'
import { moveEntry } from './move.ts'
import { hasOwnPlaces } from './places.ts'
import { removeEntry } from './remove.ts'
import { copyEntry } from './write.ts'

/**
 * Moves an entry. Where each vfolder has places of its own, the kernel may refuse to rename from one to the other; then
 * the entry is copied, by shared blocks where the filesystem has them, appears whole, and is removed from where it was.
 */
export async function moveAcross(from: Place, to: Place, options: MoveOptions): Promise<Amount> {
  try {
    return await moveEntry(from, to, options)
  } catch (error) {
    if (from.root === to.root || !hasOwnPlaces(to.root) || !isOtherDevice(error)) throw error
    return copyAndRemove(from, to, options)
  }
}

function isOtherDevice(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && 'code' in cause && cause.code === 'EXDEV'
}

async function copyAndRemove(from: Place, to: Place, { signal, overwrite = false }: MoveOptions): Promise<Amount> {
  const path = from.names.join('/')
  const stats = await lstatOf(from)
  if (stats.isDirectory()) {
    const copied = await copyTree(from, to, { signal, admit: async () => {} })
    await afterChange(path, copied, () => removeEntry(from.layout, from.root, from.names, { signal, recursive: true }))
    return nothing
  }
  const kept = { mode: stats.mode & 0o7777, modifiedAt: stats.mtime }
  const { entry, replaced } = await copyEntry(from, to, { signal, ifAbsent: !overwrite, ...kept })
  const gone = replaced === undefined ? nothing : { files: 1, bytes: replaced }
  const arrived = { files: 1, bytes: entry.type === 'file' ? entry.size : 0 }
  await afterChange(path, difference(arrived, gone), () => removeEntry(from.layout, from.root, from.names, { signal }))
  return gone
}

async function lstatOf({ root, names }: Place) {
  const parent = await openDirectory(root, names.slice(0, -1))
  try {
    return await translateErrors(names.join('/'), () => lstat(parent.at(names.at(-1) ?? '')))
  } finally {
    parent.close()
  }
}
