import fs from 'node:fs'
import { promisify } from 'node:util'

// Plain descriptors instead of `FileHandle`: half the cost for a small file, and a descriptor has a path under /proc.
export const open = promisify(fs.open)
export const fstat = promisify<number, fs.Stats>(fs.fstat)
export const fsync = promisify(fs.fsync)
export const fdatasync = promisify(fs.fdatasync)
export const fchmod = promisify(fs.fchmod)
export const fchown = promisify(fs.fchown)
export const ftruncate = promisify(fs.ftruncate)
export const futimes = promisify(fs.futimes)
export const read = promisify(fs.read)
export const write = promisify(fs.write)

const closed = () => {}

/** Gives the descriptor back; there is nothing to do about an error of a file that was flushed or only read. */
export function close(fd: number): void {
  fs.close(fd, closed)
}
