import type { Stats } from 'node:fs'
import { readlink } from 'node:fs/promises'
import type { Entry } from '../backend.ts'

const permissions = 0o7777

/** What lstat(2) says of an entry; undefined for a socket, a FIFO or a device, which are no entries. */
export function toEntry(path: string, stats: Stats): Entry | undefined {
  if (stats.isFile()) {
    const mode = stats.mode & permissions
    return { path, type: 'file', size: stats.size, modifiedAt: stats.mtime, mode, etag: etagOf(stats) }
  }
  if (stats.isDirectory()) {
    return { path, type: 'directory', size: 0, modifiedAt: stats.mtime, mode: stats.mode & permissions }
  }
  if (stats.isSymbolicLink()) return { path, type: 'symlink', size: stats.size, modifiedAt: stats.mtime }
  return undefined
}

/**
 * Inode, size and change time. Not the modification time, which `cp -p`, `rsync -t` and `touch` set at will: the kernel
 * alone sets the change time, whenever bytes change (inode(7)).
 */
function etagOf(stats: Stats): string {
  const changed = Math.round(stats.ctimeMs * 1000)
  return `${stats.ino.toString(36)}-${stats.size.toString(36)}-${changed.toString(36)}`
}

/** Adds where a symlink leads, which lstat(2) does not say. */
export async function withTarget(entry: Entry, location: string): Promise<Entry> {
  return entry.type === 'symlink' ? { ...entry, target: await readlink(location) } : entry
}
