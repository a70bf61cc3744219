import { InvalidPath } from '../../backends/errors.ts'
import { type EntryPath, parsePath } from '../../backends/path.ts'

/**
 * A path inside a vfolder as Python's `PurePosixPath` takes it: `./a`, `a//b`, `a/` and `a/../b` are understood; what
 * leads out of the vfolder is refused. Empty for the vfolder itself.
 * @throws {InvalidPath}
 */
export function parseRelpath(text: string): EntryPath | '' {
  if (text.startsWith('/')) throw new InvalidPath('a path must be relative')
  const names: string[] = []
  for (const name of text.split('/')) {
    if (name === '' || name === '.') continue
    if (name !== '..') names.push(name)
    else if (names.pop() === undefined) throw new InvalidPath('a path must not lead out of the vfolder')
  }
  return names.length === 0 ? '' : parsePath(names.join('/'))
}

/** The path of an entry, which the vfolder itself is not. @throws {InvalidPath} */
export function parseEntryPath(text: string): EntryPath {
  const path = parseRelpath(text)
  if (path === '') throw new InvalidPath('a path must name an entry in the vfolder')
  return path
}
