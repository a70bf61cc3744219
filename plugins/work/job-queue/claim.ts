import type { FastifyInstance } from 'fastify'
import { sql } from 'kysely'
import type { Database } from '../../storage/database/tables.ts'
import type { JobRow } from './job.ts'

/**
 * The longest that an attempt is put off. A job due later than that was written by a clock that has been set back
 * since.
 */
const longestDelayMilliseconds = 60_000

export interface Claim {
  kind: string
  /** The jobs that it runs already. */
  running: string[]
  limit: number
}

/**
 * Takes jobs that are due: queued ones, and running ones whose process is not alive any more or has let go of them. Two
 * processes may find the same job; the update, which names the attempt it found, lets only one of them have it.
 */
export async function claimJobs(
  db: Database,
  processes: FastifyInstance['processes'],
  { kind, running, limit }: Claim,
): Promise<JobRow[]> {
  const now = Date.now()
  const candidates = await db
    .selectFrom('jobs')
    .select(['id', 'attempts', 'state', 'failures'])
    .where('kind', '=', kind)
    .where((eb) =>
      eb.or([
        eb.and([
          eb('state', '=', 'queued'),
          eb.or([eb('due_at', '<=', now), eb('due_at', '>', now + longestDelayMilliseconds)]),
        ]),
        eb.and([
          eb('state', '=', 'running'),
          eb.or([
            eb('process', 'not in', processes.alive()),
            eb.and([eb('process', '=', processes.id), ...running.map((job) => eb('id', '!=', job))]),
          ]),
        ]),
      ]),
    )
    .orderBy('sequence')
    .limit(limit)
    .execute()

  const claimed: JobRow[] = []
  for (const candidate of candidates) {
    const row = await db
      .updateTable('jobs')
      .set((eb) => ({
        state: 'running',
        process: processes.id,
        attempts: eb('attempts', '+', 1),
        // A process that died did not write down how its attempt ended.
        failures: candidate.failures + (candidate.state === 'running' ? 1 : 0),
        started_at: sql<string>`coalesce(started_at, ${new Date(now).toISOString()})`,
        version: eb('version', '+', 1),
      }))
      .where('id', '=', candidate.id)
      .where('state', '=', candidate.state)
      .where('attempts', '=', candidate.attempts)
      .returningAll()
      .executeTakeFirst()
    if (row !== undefined) claimed.push(row)
  }
  return claimed
}
