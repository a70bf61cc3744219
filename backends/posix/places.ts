import { basename, dirname, join } from 'node:path'

// Where the places of a volume are, as seen from the directory with the entries of a vfolder; see `Layout`. That is
// `folders/3f/a1/ID`, or `vfolders/3f/a1/ID/files` where each vfolder has places of its own, or `SCOPE/3f/a1/REST` where
// they are as Backend.AI has them.

export const ownFiles = 'files'
export const ownStaging = 'staging'
export const ownUploads = 'uploads'
export const ownTrash = 'trash'

/** In the root, and in the directory of a scope: what is not Backend.AI's, whose software looks for no such name. */
export const ownName = '.storage-proxy'

/** The UUID of a quota scope, as Backend.AI names its directory. */
export const scopeName = /^[0-9a-f]{32}$/

const inScope = new RegExp(
  String.raw`^(.*/[0-9a-f]{32})/(?:[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}|\${ownName}/${ownTrash}/[0-9a-f-]{36})$`,
)

/** The directory of its quota scope, where vfolders are kept by these. */
export function scopeOf(root: string): string | undefined {
  return inScope.exec(root)?.[1]
}

/** Whether it has a staging place and uploads of its own. An ID is never `files` or `trash`. */
export function hasOwnPlaces(root: string): boolean {
  return basename(root) === ownFiles || isOwnTrash(root)
}

export function isOwnTrash(root: string): boolean {
  return basename(root) === ownTrash
}

/** All that belongs to the vfolder. */
export function homeOf(root: string): string {
  return hasOwnPlaces(root) ? dirname(root) : root
}

/** The directory that has all vfolders. */
export function foldersOf(root: string): string {
  return join(homeOf(root), '../../..')
}

/** What is there for as long as the volume is. */
export function proofOf(root: string): string {
  const scope = scopeOf(root)
  return scope === undefined ? foldersOf(root) : join(dirname(scope), ownName)
}

function volumeOf(root: string): string {
  return dirname(foldersOf(root))
}

/** Where what becomes an entry of the vfolder is made. */
export function stagingOf(root: string): string {
  if (hasOwnPlaces(root)) return join(homeOf(root), ownStaging)
  const scope = scopeOf(root)
  return scope === undefined ? join(volumeOf(root), 'staging') : join(scope, ownName, ownStaging)
}

/** Where a vfolder that is removed waits for it. */
export function removedOf(root: string): string {
  const scope = scopeOf(root)
  return scope === undefined ? join(volumeOf(root), 'trash') : join(scope, ownName, ownTrash)
}
