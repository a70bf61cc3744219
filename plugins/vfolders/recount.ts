import type { FastifyInstance } from 'fastify'
import type { Database } from '../storage/database/tables.ts'
import * as rows from './rows.ts'

/**
 * Queues a count of a vfolder, unless one is queued: where nobody can tell how its usage has changed. It belongs into the
 * transaction that ends what is not counted, since a process that died in between would leave nobody who knows.
 */
export async function queueCount(
  { database, jobs }: Pick<FastifyInstance, 'database' | 'jobs'>,
  id: string,
  trx: Database = database,
): Promise<void> {
  const vfolder = await rows.find(trx, id)
  if (vfolder?.state !== 'ready') return
  const counts = await jobs.listUnended('sync-quotas', id, trx)
  if (counts.some(({ job }) => job.state === 'queued')) return
  const job = { kind: 'sync-quotas', folder: id, volume: vfolder.volume, payload: {} }
  await (trx === database ? jobs.enqueue(job) : jobs.enqueue(job, trx))
}
