import type { FastifyInstance } from 'fastify'
import type { Database } from '../../storage/database/tables.ts'
import { type JobKind, toJob } from './job.ts'

/** Tells of a job that has ended, in the transaction of its end. */
export async function tellEnd({ events }: FastifyInstance, trx: Database, id: string, kind: JobKind): Promise<void> {
  if (!events.hasEnds) return
  const row = await trx.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
  const { vfolder, volume } = row
  await events.add(trx, {
    type: 'job.ended',
    ...(vfolder !== null && { folder: vfolder }),
    ...(volume !== null && { volume }),
    data: { job: toJob(row), ...kind.told?.(JSON.parse(row.payload)) },
  })
}
