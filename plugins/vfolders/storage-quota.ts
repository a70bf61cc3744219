import type { FastifyInstance } from 'fastify'
import type { Call, QuotaLimits } from '../../backends/backend.ts'
import { find, type Vfolder } from './rows.ts'

/**
 * Sets the limits of a vfolder on its storage, where that keeps some. The row says what they are: should it change
 * meanwhile, they are set once more, so that of two changes at once the storage does not keep the other one.
 */
export async function applyQuota(
  { database, volumes }: Pick<FastifyInstance, 'database' | 'volumes'>,
  { id, volume }: Pick<Vfolder, 'id' | 'volume'>,
  { signal }: Call,
): Promise<void> {
  const { backend } = volumes.get(volume)
  if (backend.quota === undefined) return
  let applied: QuotaLimits | undefined
  for (;;) {
    const vfolder = await find(database, id)
    if (vfolder === undefined || vfolder.state === 'deleting') return
    const { bytes, files } = vfolder.quota
    if (bytes === applied?.bytes && files === applied.files) return
    await backend.quota(id, { bytes, files }, { signal })
    applied = { bytes, files }
  }
}
