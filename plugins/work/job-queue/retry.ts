import type { FastifyInstance } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { transact } from '../../storage/database/transact.ts'
import { auditedOf } from './audited.ts'
import { atOnce, channels, hasEnded, type Job, type JobKind, type JobRow, toJob } from './job.ts'

/** As a job has it that has not begun. */
const unbegun = { checkpoint: null, files_done: 0, files_total: null, bytes_done: 0, bytes_total: null }

/** Queues a job once more that has failed or was cancelled. It keeps its ID, its request ID and the history of its attempts. */
export function createRetry({ database: db, audit, log }: FastifyInstance, kinds: Map<string, JobKind>) {
  /** @throws {Problem} `job_not_ended`, `job_ended` or `job_not_retryable` */
  function requireKind({ id, kind, state }: JobRow): JobKind {
    if (!hasEnded({ state })) throw new Problem('job_not_ended', `The job ${id} is ${state}.`)
    if (state === 'succeeded') throw new Problem('job_ended', 'The job has succeeded already.')
    const definition = kinds.get(kind)
    if (definition === undefined) throw new Problem('job_not_retryable', `There are no ${kind} jobs any more.`)
    return definition
  }

  /** @throws {Problem} the same, `job_not_found`, or what its kind says */
  return async (id: string): Promise<Job> => {
    const retried = await transact(db, async (trx) => {
      const row = await trx.selectFrom('jobs').selectAll().where('id', '=', id).forUpdate().executeTakeFirst()
      if (row === undefined) throw new Problem('job_not_found', `There is no job ${id}.`)
      const kind = requireKind(row)
      await kind.prepareRetry?.({ id, folder: row.vfolder, payload: JSON.parse(row.payload) }, trx)
      const again = await trx
        .updateTable('jobs')
        .set((eb) => ({
          state: 'queued',
          queued_again_at: new Date(db.now()).toISOString(),
          due_at: atOnce,
          finished_at: null,
          failures: 0,
          cancel_requested: 0,
          committed: 0,
          ...(kind.prepareRetry && unbegun),
          version: eb('version', '+', 1),
        }))
        .where('id', '=', id)
        .returningAll()
        .executeTakeFirstOrThrow()
      audit.write(trx, { action: 'job.retry', ...auditedOf(row), origin: row.request_id })
      await db.notify(trx, channels.changed, id)
      await db.notify(trx, channels.queued, row.kind)
      return again
    })
    log.info({ job_id: id, origin_request_id: retried.request_id }, 'job queued once more')
    return toJob(retried)
  }
}
