import fs from 'node:fs'
import type { Amount, Entry } from '../backend.ts'
import { readlink } from './files.ts'

const { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } = fs.constants
const permissions = 0o7777

/** What an entry is made of; see inode(7). */
export type Attributes = Pick<fs.Stats, 'mode' | 'size' | 'ino' | 'mtimeMs' | 'ctimeMs'>

/** What lstat(2) says of an entry; undefined for a socket, a FIFO or a device, which are no entries. */
export function toEntry(path: string, attributes: Attributes): Entry | undefined {
  const { size } = attributes
  const mode = attributes.mode & permissions
  const modifiedAt = new Date(Math.round(attributes.mtimeMs))
  const changedAt = new Date(Math.round(attributes.ctimeMs))
  switch (attributes.mode & S_IFMT) {
    case S_IFREG:
      return { path, type: 'file', size, modifiedAt, changedAt, mode, etag: etagOf(attributes) }
    case S_IFDIR:
      return { path, type: 'directory', size: 0, modifiedAt, changedAt, mode }
    case S_IFLNK:
      return { path, type: 'symlink', size, modifiedAt, changedAt }
  }
}

/** Of a file or a symlink that was just stored. */
export function toStoredEntry(path: string, attributes: Attributes): Entry {
  const entry = toEntry(path, attributes)
  if (entry === undefined) throw new Error(`a file that was just written has mode ${attributes.mode.toString(8)}`)
  return entry
}

/** What counts in the usage: nothing for a socket, a FIFO or a device. */
export function amountOf(stats: fs.Stats): Amount {
  if (stats.isFile()) return { files: 1, bytes: stats.size }
  return { files: stats.isSymbolicLink() ? 1 : 0, bytes: 0 }
}

/**
 * Inode, size and change time. Not the modification time, which `cp -p`, `rsync -t` and `touch` set at will: the kernel
 * alone sets the change time, whenever bytes change (inode(7)).
 */
export function etagOf({ ino, size, ctimeMs }: Attributes): string {
  const changed = Math.round(ctimeMs * 1000)
  return `${ino.toString(36)}-${size.toString(36)}-${changed.toString(36)}`
}

/** Adds where a symlink leads, which lstat(2) does not say. */
export async function withTarget(entry: Entry, location: string): Promise<Entry> {
  return entry.type === 'symlink' ? { ...entry, target: await readlink(location) } : entry
}
