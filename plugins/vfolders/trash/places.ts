import { type Capable, hasCapability } from '../../../backends/capabilities.ts'
import { BackendError, NotFound } from '../../../backends/errors.ts'
import { type EntryPath, parsePath } from '../../../backends/path.ts'
import { Problem, toProblem } from '../../../lib/problems.ts'
import type { Volume } from '../../storage/volumes.ts'
import type { TrashRow } from './rows.ts'

/** @throws {Problem} `capability_missing`: what was to be kept is not deleted instead */
export function requireTrash({ name, backend }: Volume): Capable<'trash'> {
  if (hasCapability(backend, 'trash')) return backend
  const detail = `The volume ${name} cannot keep what is deleted (trash); with "permanent": true it is gone at once.`
  throw new Problem('capability_missing', detail)
}

/** The same error, with the path that an entry had in the place of its name in the trash, which nobody outside knows. */
export function asCalled(error: unknown, { id, path }: Pick<TrashRow, 'id' | 'path'>): unknown {
  if (!(error instanceof BackendError)) return error
  const detail = error.message.replaceAll(id, path).replace(`${path} or ${path}`, path)
  return new Problem(toProblem(error).code, detail, { cause: error })
}

/** A name beside a path that is taken: `data/a (restored).csv`, `data/a (restored 2).csv` and so on. */
export function restoredName(path: EntryPath, count: number): EntryPath {
  const start = path.lastIndexOf('/') + 1
  const dot = path.lastIndexOf('.')
  // A name that begins with its only dot has no extension.
  const end = dot > start ? dot : path.length
  return parsePath(`${path.slice(0, end)} (restored${count === 1 ? '' : ` ${count}`})${path.slice(end)}`)
}

/**
 * Goes on with a restoration that was broken off, to where it was begun.
 * @returns where it is now, also when it was there already
 */
export async function finishReturn(
  backend: Capable<'trash'>,
  { id, vfolder, target, path: origin }: TrashRow,
  signal: AbortSignal,
): Promise<EntryPath> {
  const path = parsePath(target ?? origin)
  await backend.move(backend.trash(vfolder), parsePath(id), path, { toFolder: vfolder, signal }).catch((error) => {
    if (!(error instanceof NotFound)) throw error
  })
  return path
}
