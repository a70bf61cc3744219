import { type EntryPath, parsePath } from '../../../backends/path.ts'

/** What an archive holds: an entry with all that is in it, or some of what is in a directory. */
export interface Selection {
  /** Empty for the vfolder. */
  path: string
  /** Paths relative to `path`; absent: all. */
  names?: string[] | undefined
  /**
   * The directory that the names in the archive are relative to, which has all of them and is no member itself; empty
   * for the vfolder. Absent: the one above the selection.
   */
  base?: string | undefined
}

/** The selection of these paths, each once, under the directory that they have in common; of none, the vfolder. */
export function select(paths: string[]): Selection {
  const selected = new Set(paths)
  const tops = [...selected].filter((path) => !ancestors(path).some((ancestor) => selected.has(ancestor))).toSorted()
  const [first, ...others] = tops
  if (first === undefined) return { path: '' }
  if (others.length === 0) return { path: first }
  const directory = ancestors(first).findLast((ancestor) => others.every((path) => path.startsWith(`${ancestor}/`)))
  if (directory === undefined) return { path: '', names: tops }
  return { path: directory, names: tops.map((path) => path.slice(directory.length + 1)) }
}

/** The paths of what is selected; undefined when that is the whole vfolder, whose root has none. */
export function pathsOf({ path, names }: Selection): EntryPath[] | undefined {
  if (names !== undefined) return names.map((name) => parsePath(path === '' ? name : `${path}/${name}`))
  return path === '' ? undefined : [parsePath(path)]
}

/** The length of the part of a path that is not repeated in the archive. */
export function baseLength({ path, names, base }: Selection): number {
  if (base !== undefined) return base === '' ? 0 : base.length + 1
  if (path === '') return 0
  return names === undefined ? path.lastIndexOf('/') + 1 : path.length + 1
}

/** The directories that lead to a path, the uppermost first. */
function ancestors(path: string): string[] {
  const found: string[] = []
  for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) found.push(path.slice(0, end))
  return found
}
