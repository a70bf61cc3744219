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

declare const parsed: unique symbol

/** A path inside a vfolder that keeps these rules: a string that only `parsePath` makes. */
export type EntryPath = string & { readonly [parsed]: true }

/**
 * Makes a path of text that came from outside, or that was put together.
 * @throws {InvalidPath} naming the rule that the text breaks
 */
export function parsePath(text: string): EntryPath {
  const rule = brokenRule(text)
  if (rule !== undefined) throw new InvalidPath(`a path ${rule}`)
  return text as EntryPath
}

/**
 * Splits text that is to be a path inside a vfolder into its names.
 * @throws {InvalidPath} naming the rule that the text breaks
 */
export function splitPath(text: string): string[] {
  return parsePath(text).split('/')
}
