import type { FastifyInstance } from 'fastify'
import { atLeastNothing, difference } from '../../backends/amount.ts'
import { Problem } from '../../lib/problems.ts'
import type { Database } from '../storage/database/tables.ts'
import type { EndedJob } from '../work/job-queue/job.ts'
import * as rows from './rows.ts'
import { countedTrash } from './trash/rows.ts'
import type { ClonePayload } from './vfolders.ts'

/**
 * Makes the vfolder of a clone once more, whose job is to begin anew, as it was asked for.
 * @throws {Problem} `job_not_retryable`, `vfolder_not_found`, `vfolder_cloning`, `vfolder_exists` or `quota_exceeded`
 */
export async function cloneAgain(
  app: FastifyInstance,
  { id: job, folder, payload }: EndedJob<typeof ClonePayload.static>,
  trx: Database,
): Promise<void> {
  const id = folder ?? ''
  const { target } = payload
  if (target === undefined) throw new Problem('job_not_retryable', 'The job does not know what it was to make.')
  const source = await rows.find(trx, payload.source)
  if (source?.state !== 'ready') throw rows.vfolderNotFound(payload.source)
  const input = { ...target, id, volume: app.volumes.get(target.volume) }
  if (!(await rows.create(trx, input, app.database.now(), 'cloning'))) {
    const state = (await rows.find(trx, id))?.state
    if (state !== 'deleting') throw new Problem('vfolder_exists', `There is another vfolder ${id} by now.`)
    throw new Problem('job_not_retryable', 'What it had cloned is still being removed; retry it when that has ended.')
  }
  await app.quotas.setAside(trx, id, atLeastNothing(difference(source.usage, await countedTrash(trx, source.id))))
  await rows.rememberMaker(trx, id, job)
}
