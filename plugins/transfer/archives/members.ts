import type { Entry } from '../../../backends/backend.ts'
import { NotADirectory, NotFound, SourceChanged } from '../../../backends/errors.ts'
import { parsePath } from '../../../backends/path.ts'
import type { VfolderFiles } from '../../vfolders/files.ts'
import { baseLength, pathsOf, type Selection } from './selection.ts'

/** An entry, and what it is called in the archive: a directory with a trailing `/`. */
export interface Member {
  entry: Entry
  name: string
}

/**
 * @throws {NotFound} when one of the selected entries does not exist
 * @throws {NotADirectory} when it is what the names are relative to, and is none
 */
export async function assertPresent(files: VfolderFiles, selection: Selection, signal: AbortSignal): Promise<void> {
  for (const path of pathsOf(selection) ?? []) {
    const { type } = await files.stat(path, signal)
    if (path === selection.base && type !== 'directory') throw new NotADirectory(`${path} is no directory`)
  }
}

/** The selected entries and all that is in them, each directory before its contents. */
export async function* membersOf(
  files: VfolderFiles,
  selection: Selection,
  signal: AbortSignal,
): AsyncGenerator<Member> {
  const start = baseLength(selection)
  const toMember = (entry: Entry) => ({ entry, name: nameOf(entry, start) })
  const paths = pathsOf(selection)
  if (paths === undefined) {
    for await (const entry of files.list({ recursive: true, signal })) yield toMember(entry)
    return
  }
  for (const path of paths) {
    const top = await files.stat(path, signal)
    if (path !== selection.base) yield toMember(top)
    if (top.type !== 'directory') continue
    for await (const entry of files.list({ path, recursive: true, signal })) yield toMember(entry)
  }
}

function nameOf({ path, type }: Entry, start: number): string {
  return type === 'directory' ? `${path.slice(start)}/` : path.slice(start)
}

/**
 * Passes on the members, and checks after the last one of each directory that the directory is still there: its listing
 * ends in the same way when it vanishes as when it has no more entries.
 * @throws {SourceChanged}
 */
export async function* watchDirectories(
  files: VfolderFiles,
  members: AsyncIterable<Member>,
  signal: AbortSignal,
): AsyncGenerator<Member> {
  const open: string[] = []
  const leave = async (path: string) => {
    if (!(await isDirectory(files, path, signal))) throw new SourceChanged(`${path} vanished while it was packed`)
  }
  for await (const member of members) {
    const { path, type } = member.entry
    for (let last = open.at(-1); last !== undefined && !path.startsWith(`${last}/`); last = open.at(-1)) {
      await leave(last)
      open.pop()
    }
    if (type === 'directory') open.push(path)
    yield member
  }
  for (const path of open.reverse()) await leave(path)
}

async function isDirectory(files: VfolderFiles, path: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await files.stat(parsePath(path), signal)).type === 'directory'
  } catch (error) {
    if (error instanceof NotFound) return false
    throw error
  }
}
