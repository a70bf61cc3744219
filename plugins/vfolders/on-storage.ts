import { NotFound } from '../../backends/errors.ts'
import { invalid, type RequestPart } from '../../lib/problems.ts'
import type { NewVfolder } from './rows.ts'

// What no row knows yet is asked for by its name on the storage.

type Named = Pick<NewVfolder, 'id' | 'volume' | 'quotaScope'>

/**
 * By which the storage knows a vfolder.
 * @param part of the request, which has the scope
 * @throws {Problem} `validation_failed` where there can be none of that scope
 */
export function nameOnStorage({ id, volume, quotaScope }: Named, part: RequestPart = 'body'): string {
  const { name, backend } = volume
  if (backend.folderOf === undefined) return id
  const folder = backend.folderOf(id, quotaScope)
  if (folder !== undefined) return folder
  throw invalid(part, 'quotaScope', `must be user:UUID or project:UUID, since volume ${name} keeps vfolders by it`)
}

/** Whether the storage has a vfolder of that ID. */
export async function isThere(vfolder: Named, signal: AbortSignal): Promise<boolean> {
  return (await look(vfolder, signal)) !== 'missing'
}

/** Files of an earlier vfolder of that ID must not be shown as those of a new one. */
export async function hasEntries(vfolder: Named, signal: AbortSignal): Promise<boolean> {
  return (await look(vfolder, signal)) === 'filled'
}

async function look(vfolder: Named, signal: AbortSignal): Promise<'missing' | 'empty' | 'filled'> {
  const name = nameOnStorage(vfolder)
  try {
    for await (const _ of vfolder.volume.backend.list(name, { signal, limit: 1 })) return 'filled'
    return 'empty'
  } catch (error) {
    if (error instanceof NotFound) return 'missing'
    throw error
  }
}
