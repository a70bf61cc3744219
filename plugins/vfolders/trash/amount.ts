import type { FastifyBaseLogger } from 'fastify'
import { amountOf, nothing } from '../../../backends/amount.ts'
import type { Amount, Call, Entry } from '../../../backends/backend.ts'
import type { Capable } from '../../../backends/capabilities.ts'
import { parsePath } from '../../../backends/path.ts'
import { countEntries } from '../usage.ts'
import type { TrashRow } from './rows.ts'

/** For what has begun, and is gone on with though nobody may wait for it any more. */
const toTheEnd: Call = { signal: new AbortController().signal }

/**
 * How much an entry is that is in the trash. What cannot be looked through, such as a directory that its owner keeps from
 * the service, can be restored all the same: it counts as nothing.
 */
export async function amountInTrash(
  backend: Capable<'trash'>,
  { id, vfolder, path }: TrashRow,
  entry: Entry,
  log: FastifyBaseLogger,
): Promise<Amount> {
  if (entry.type !== 'directory') return amountOf(entry)
  const inside = { path: parsePath(id), ...toTheEnd }
  return countEntries(backend, backend.trash(vfolder), inside).catch((err) => {
    log.warn({ err, folder: vfolder, path }, 'what is in a deleted directory could not be counted')
    return nothing
  })
}
