import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { type RawBuilder, sql } from 'kysely'
import { buildApp } from '../../app.ts'
import { loadConfig } from '../../plugins/config.ts'
import { createLoggers } from '../../plugins/request/logging.ts'
import { claimJobs } from '../../plugins/work/job-queue/claim.ts'
import { startPostgres } from '../postgres.ts'
import { type Bench, percentile, type Row, type Waits } from '../row.ts'

const queued = 100_000
const claims = 2000
const kind = 'of-the-bench'

/** Queues jobs of a kind that the service does not know, and so leaves to the row. */
async function queueJobs({ database: db }: FastifyInstance): Promise<void> {
  const now = Date.now()
  for (let sequence = 1; sequence <= queued; sequence += 1000) {
    const rows = Array.from({ length: 1000 }, (_, index) => ({
      id: randomUUID(),
      sequence: sequence + index,
      kind,
      payload: '{}',
      state: 'queued' as const,
      request_id: 'bench',
      due_at: now,
      created_at: new Date(now).toISOString(),
    }))
    await db.insertInto('jobs').values(rows).execute()
  }
}

/** @param settle what the database has long done where the jobs were not queued just now */
async function measure(bench: Bench, env: Record<string, string>, settle?: RawBuilder<unknown>): Promise<Waits> {
  const config = loadConfig({
    DATA_DIR: join(bench.directory, 'data'),
    MANAGER_TOKENS: 'a-manager-token-for-the-bench',
    SIGNING_KEYS: 'a-signing-key-for-the-bench-32-bytes',
    ...env,
  })
  const app = await buildApp(config, createLoggers('silent'))
  bench.cleanup(() => app.close())
  await app.ready()
  await queueJobs(app)
  await settle?.execute(app.database)
  const running: string[] = []
  const times: number[] = []
  for (let count = 0; count < claims; count++) {
    const begun = performance.now()
    const [job] = await claimJobs(app, { kind, running, volumes: ['default'], limit: 1 })
    times.push(performance.now() - begun)
    if (job === undefined) throw new Error('there is no job left')
    running.splice(0, running.length, job.id)
    const ended = { state: 'succeeded', finished_at: job.created_at } as const
    await app.database.updateTable('jobs').set(ended).where('id', '=', job.id).execute()
  }
  const total = times.reduce((sum, time) => sum + time, 0)
  const slowest = Math.max(...times)
  const rate = (claims / total) * 1000
  const told = `${rate.toFixed(0)} claims/s, p50 ${percentile(times, 0.5).toFixed(1)} ms, slowest ${slowest.toFixed(1)} ms`
  return { milliseconds: slowest, told }
}

const what = `the slowest of ${claims} claims of one job each, of ${queued} queued ones`

export const jobClaims: Row = {
  name: 'job-claims',
  what: `${what}, on SQLite`,
  bound: { belowMilliseconds: 50 },
  measure: (bench) => measure(bench, {}),
}

export const jobClaimsPostgres: Row = {
  name: 'job-claims-postgres',
  what: `${what}, on PostgreSQL`,
  bound: { belowMilliseconds: 50 },
  // Segments of its log that are used again need not be made while a claim waits.
  measure: async (bench) => measure(bench, { DATABASE_URL: await startPostgres(bench) }, sql`checkpoint`),
}
