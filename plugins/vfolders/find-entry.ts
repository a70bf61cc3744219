import type { Backend, Entry } from '../../backends/backend.ts'
import { NotADirectory, NotFound } from '../../backends/errors.ts'
import type { EntryPath } from '../../backends/path.ts'

/** Whether an error says that nothing is at a path, if only since a file is where the path has a directory. */
export function isMissing(error: unknown): boolean {
  return error instanceof NotFound || error instanceof NotADirectory
}

/** What stands at a path, if anything does. */
export async function findEntry(
  backend: Backend,
  folder: string,
  path: EntryPath,
  signal: AbortSignal,
): Promise<Entry | undefined> {
  return backend.stat(folder, path, { signal }).catch((error: unknown) => {
    if (error instanceof NotFound) return undefined
    throw error
  })
}
