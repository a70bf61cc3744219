import type { Backend, Entry } from '../../backends/backend.ts'
import { NotFound } from '../../backends/errors.ts'
import type { EntryPath } from '../../backends/path.ts'

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
