import { InvalidPath } from './errors.ts'

/** `NAME_MAX` of Linux filesystems, in bytes. */
export const maxNameBytes = 255
/** `PATH_MAX` of Linux, in bytes. */
export const maxPathBytes = 4096

/**
 * Splits a path inside a vfolder into its names.
 *
 * A path is UTF-8, relative and `/`-separated. It has no empty, `.` or `..` segment, no NUL, no segment over 255 bytes
 * and at most 4096 bytes in all. The vfolder's own root is not a path.
 *
 * @throws {InvalidPath} naming the rule that the path breaks
 */
export function splitPath(path: string): string[] {
  if (path === '') throw new InvalidPath('a path must not be empty')
  if (path.includes('\0')) throw new InvalidPath('a path must not contain NUL')
  if (!path.isWellFormed()) throw new InvalidPath('a path must be valid UTF-8')
  if (path.startsWith('/')) throw new InvalidPath('a path must be relative')
  if (Buffer.byteLength(path) > maxPathBytes) throw new InvalidPath(`a path must not be over ${maxPathBytes} bytes`)

  const names = path.split('/')
  for (const name of names) {
    if (name === '') throw new InvalidPath('a path must not have an empty segment')
    if (name === '.' || name === '..') throw new InvalidPath(`a path must not have a ${name} segment`)
    if (Buffer.byteLength(name) > maxNameBytes) {
      throw new InvalidPath(`a segment of a path must not be over ${maxNameBytes} bytes`)
    }
  }
  return names
}
