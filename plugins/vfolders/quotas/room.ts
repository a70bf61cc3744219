import { atLeastNothing, difference } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import type { Database } from '../../storage/database/tables.ts'
import { findAvailable } from './limits.ts'

/** How much more is asked for when what was set aside is used up: as much as that, within these bounds. */
const smallestStep = 1024 * 1024
const largestStep = 64 * 1024 * 1024

/** How much more a file of so many bytes takes than the one that it replaces. */
export function roomFor(bytes: number, replaced: Amount): Amount {
  return atLeastNothing({ bytes: bytes - replaced.bytes, files: 1 - replaced.files })
}

export function covers(held: Amount, needed: Amount): boolean {
  return needed.bytes <= held.bytes && needed.files <= held.files
}

/** The part of `needed` that is not held yet. */
export function missing(held: Amount, needed: Amount): Amount {
  return atLeastNothing(difference(needed, held))
}

/** The same, and some more for what follows, as far as there is room. @throws {Problem} `vfolder_not_found` */
export async function missingAhead(trx: Database, vfolder: string, held: Amount, needed: Amount): Promise<Amount> {
  const { bytes, files } = missing(held, needed)
  const step = Math.min(largestStep, Math.max(smallestStep, held.bytes))
  if (bytes === 0 || bytes >= step) return { bytes, files }
  const room = await findAvailable(trx, vfolder)
  return { bytes: Math.max(bytes, Math.min(step, room.bytes)), files }
}
