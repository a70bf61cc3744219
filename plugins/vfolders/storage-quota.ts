import type { FastifyInstance } from 'fastify'
import type { Call, QuotaLimits } from '../../backends/backend.ts'
import { find } from './rows.ts'

/**
 * Sets the limits of a vfolder on its storage, where that keeps some. The row says what they are: should it change
 * meanwhile, they are set once more, so that of two changes at once the storage does not keep the other one.
 */
export async function applyQuota(
  { database, volumes }: Pick<FastifyInstance, 'database' | 'volumes'>,
  id: string,
  { signal }: Call,
): Promise<void> {
  let applied: QuotaLimits | undefined
  for (;;) {
    const vfolder = await find(database, id)
    if (vfolder === undefined || vfolder.state === 'deleting') return
    const { backend } = volumes.get(vfolder.volume)
    const { quota } = vfolder
    if (backend.quota === undefined || (quota.bytes === applied?.bytes && quota.files === applied.files)) return
    await backend.quota(id, quota, { signal })
    applied = quota
  }
}
