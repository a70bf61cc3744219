import { basename, dirname, join } from 'node:path'

// Where the places of a volume are, as seen from the directory with the entries of a vfolder; see `Layout`. That is
// `folders/3f/a1/ID`, or `vfolders/3f/a1/ID/files` where each vfolder has places of its own.

export const ownFiles = 'files'
export const ownStaging = 'staging'
export const ownUploads = 'uploads'
export const ownTrash = 'trash'

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

export function volumeOf(root: string): string {
  return dirname(foldersOf(root))
}

/** Where what becomes an entry of the vfolder is made. */
export function stagingOf(root: string): string {
  return hasOwnPlaces(root) ? join(homeOf(root), ownStaging) : join(volumeOf(root), 'staging')
}
