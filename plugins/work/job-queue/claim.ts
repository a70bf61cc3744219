import type { FastifyInstance } from 'fastify'
import { type ExpressionBuilder, sql } from 'kysely'
import type { Database, Tables } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { begin } from './attempts.ts'
import { auditedOf, contextOf } from './audited.ts'
import { channels, type JobRow } from './job.ts'
import { takenOver } from './notices.ts'

/** The longest that an attempt is put off. A job due later than that was written before a clock was set back. */
const longestDelayMilliseconds = 60_000

type JobExpressions = ExpressionBuilder<Tables, 'jobs'>

export interface Claim {
  kind: string
  /** The jobs that it runs already. */
  running: string[]
  /** The volumes that it has. */
  volumes: string[]
  limit: number
}

/**
 * Takes jobs that are due: queued ones, and running ones whose process is not alive any more or has let go of them. A job
 * on a volume that this process does not have is left to one that does.
 */
export async function claimJobs(
  { database: db, processes, audit }: FastifyInstance,
  { kind, running, volumes, limit }: Claim,
): Promise<JobRow[]> {
  const now = db.now()
  const queuedAndDue = (eb: JobExpressions) =>
    eb.or([eb('due_at', '<=', now), eb('due_at', '>', now + longestDelayMilliseconds)])
  const leftBehind = (eb: JobExpressions) =>
    eb.or([eb('process', 'not in', processes.alive()), eb('process', '=', processes.id)])
  // In the order of the index that has the unended jobs of each kind. What is not asked for outright can lead to no other
  // index, from which all that are queued would have to be sorted for each claim.
  const selectDue = (on: Database) =>
    on
      .selectFrom('jobs')
      .select(['id', 'state'])
      .where('kind', '=', kind)
      .where('finished_at', 'is', null)
      .where((eb) => eb.and(running.map((job) => eb('id', '!=', job))))
      .where((eb) => eb.or([eb('volume', 'is', null), eb('volume', 'in', volumes)]))
      .where((eb) => eb.or([eb('source_volume', 'is', null), eb('source_volume', 'in', volumes)]))
      .where((eb) => {
        const queued = eb.case().when('state', '=', 'queued').then(queuedAndDue(eb))
        return queued.when('state', '=', 'running').then(leftBehind(eb)).else(eb.lit(false)).end()
      })
      .orderBy('sequence')
      .limit(limit)

  // Most of the time there is none, and nothing to lock.
  if ((await selectDue(db).limit(1).executeTakeFirst()) === undefined) return []
  // What a power cut takes back is claimed once more; by then an attempt that still goes on holds nothing.
  const { claimed, leftBehind: left } = await transact(db.unflushed, async (trx) => {
    // Several processes look at once: each takes those that no other one is taking.
    const due = await selectDue(trx).forUpdate().skipLocked().execute()
    if (due.length === 0) return { claimed: [], leftBehind: 0 }
    const claimed = await trx
      .updateTable('jobs')
      .set((eb) => ({
        state: 'running',
        process: processes.id,
        attempts: eb('attempts', '+', 1),
        // A process that died did not write down how its attempt ended.
        failures: sql<number>`case when state = 'running' then failures + 1 else failures end`,
        started_at: sql<string>`coalesce(started_at, ${new Date(now).toISOString()})`,
        version: eb('version', '+', 1),
      }))
      .where(
        'id',
        'in',
        due.map(({ id }) => id),
      )
      .returningAll()
      .execute()
    const started_at = new Date(now).toISOString()
    const begun = claimed.map(({ id, attempts }) => ({ job: id, number: attempts, process: processes.id, started_at }))
    await begin(trx, begun)
    const left = new Set(due.flatMap(({ id, state }) => (state === 'running' ? [id] : [])))
    for (const row of claimed) {
      const attempt = { action: 'job.attempt', ...auditedOf(row) } as const
      const [context, count] = [contextOf(row), row.attempts]
      if (left.has(row.id)) audit.write(trx, { ...attempt, outcome: 'lost', count: count - 1 }, context)
      audit.write(trx, { ...attempt, outcome: 'begun', count, process: processes.name }, context)
      await db.notify(trx, channels.changed, row.id)
    }
    const ordered = claimed.toSorted((a, b) => a.sequence - b.sequence)
    return { claimed: ordered, leftBehind: left.size }
  })
  if (left > 0) takenOver.give(kind, left)
  return claimed
}
