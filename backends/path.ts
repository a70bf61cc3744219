import { InvalidPath } from './errors.ts'

/** `NAME_MAX` of Linux filesystems, in bytes. */
export const maxNameBytes = 255
/** `PATH_MAX` of Linux, in bytes. */
export const maxPathBytes = 4096

/**
 * Says which rule a path inside a vfolder breaks, if any: it is UTF-8, relative and `/`-separated, has no empty, `.` or
 * `..` segment, no NUL, no segment over 255 bytes and at most 4096 bytes in all. The vfolder's own root is not a path.
 */
export function brokenRule(path: string): string | undefined {
  if (path === '') return 'must not be empty'
  if (path.includes('\0')) return 'must not contain NUL'
  if (!path.isWellFormed()) return 'must be valid UTF-8'
  if (path.startsWith('/')) return 'must be relative'
  if (Buffer.byteLength(path) > maxPathBytes) return `must not be over ${maxPathBytes} bytes`

  for (const name of path.split('/')) {
    if (name === '') return 'must not have an empty segment'
    if (name === '.' || name === '..') return `must not have a ${name} segment`
    if (Buffer.byteLength(name) > maxNameBytes) return `must not have a segment over ${maxNameBytes} bytes`
  }
  return undefined
}

/**
 * Splits a path inside a vfolder into its names.
 * @throws {InvalidPath} naming the rule that the path breaks
 */
export function splitPath(path: string): string[] {
  const rule = brokenRule(path)
  if (rule !== undefined) throw new InvalidPath(`a path ${rule}`)
  return path.split('/')
}
