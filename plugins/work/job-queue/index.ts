import { randomUUID } from 'node:crypto'
import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Expression, sql } from 'kysely'
import { currentContext, newRequestId, traceparent } from '../../../lib/context.ts'
import { Problem } from '../../../lib/problems.ts'
import { type Database, jobStates } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { forgetAttempts, type JobDetails, listAttempts } from './attempts.ts'
import { auditedOf, contextOf } from './audited.ts'
import { tellEnd } from './ended.ts'
import { atOnce, channels, hasEnded, type Job, type JobKind, queuedAt, shownColumns, toJob } from './job.ts'
import { createRetry } from './retry.ts'
import { createRunner } from './runner.ts'
import { createStranded } from './stranded.ts'
import { summarize } from './summary.ts'

declare module 'fastify' {
  interface FastifyInstance {
    jobs: ReturnType<typeof createJobQueue>
  }
}

/** How often, at least, jobs are looked for that no process can run. */
const tellSeconds = 60

const endStates = jobStates.filter((state) => hasEnded({ state }))

export interface NewJob {
  kind: string
  folder: string | null
  /** The one that a process must have to run it. */
  volume?: string
  /** Another one that it must have, when that is not the same. */
  sourceVolume?: string
  payload: Record<string, unknown>
}

function createJobQueue(app: FastifyInstance) {
  const { database: db, config } = app
  const kinds = new Map<string, JobKind>()
  const stranded = createStranded(app)
  const runner = createRunner(app, kinds)

  async function insert({ kind, folder, volume, sourceVolume, payload }: NewJob, trx: Database): Promise<Job> {
    const definition = kinds.get(kind)
    if (definition === undefined) throw new Error(`no job is called ${kind}`)
    const context = currentContext()
    const row = await trx
      .insertInto('jobs')
      .values({
        id: randomUUID(),
        sequence: db.nextSequence,
        kind,
        vfolder: folder,
        volume: volume ?? null,
        source_volume: sourceVolume ?? null,
        payload: JSON.stringify(Value.Parse(definition.payload, payload)),
        state: 'queued',
        request_id: context?.request_id ?? newRequestId(),
        trace_id: context?.trace_id ?? null,
        traceparent: context?.[traceparent] ?? null,
        due_at: atOnce,
        created_at: new Date(db.now()).toISOString(),
      })
      .returningAll()
      .executeTakeFirstOrThrow()
    app.audit.write(trx, { action: 'job.queue', ...auditedOf(row) })
    await db.notify(trx, channels.queued, kind)
    return toJob(row)
  }

  async function getShown(id: string) {
    const query = db.selectFrom('jobs').select(shownColumns).select('version').where('id', '=', id)
    const row = await query.executeTakeFirst()
    if (row === undefined) throw new Problem('job_not_found', `There is no job ${id}.`)
    return row
  }

  return {
    /** @throws when the kind is defined already */
    define(kind: JobKind): void {
      if (kinds.has(kind.kind)) throw new Error(`job ${kind.kind} is defined twice`)
      kinds.set(kind.kind, kind)
    },

    /**
     * Queues a job under the caller's request ID; in `trx` together with the change that needs it, so that there is
     * both or neither.
     */
    enqueue: (job: NewJob, trx?: Database): Promise<Job> =>
      trx === undefined ? transact(db, (trx) => insert(job, trx)) : insert(job, trx),

    /** A job with what it was given. */
    async find(id: string): Promise<{ job: Job; payload: unknown } | undefined> {
      const row = await db.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst()
      return row && { job: toJob(row), payload: JSON.parse(row.payload) }
    },

    /** The vfolders that jobs of a kind work on or wait for, as a subquery. */
    selectFolders(kind: string): Expression<string> {
      return db
        .selectFrom('jobs')
        .select(({ fn }) => fn.coalesce('jobs.vfolder', sql.lit('')).as('vfolder'))
        .where('jobs.kind', '=', kind)
        .where('jobs.state', 'in', ['queued', 'running'])
        .$asScalar()
    },

    /** The IDs of jobs that have not ended, as a subquery: what has such an ID belongs to that job. */
    selectUnended: (): Expression<string> =>
      db.selectFrom('jobs').select('jobs.id').where('jobs.state', 'in', ['queued', 'running']).$asScalar(),

    /** The jobs of a kind that have not ended, on one vfolder, with what they were given. */
    async listUnended(kind: string, folder: string, on: Database = db): Promise<{ job: Job; payload: unknown }[]> {
      const rows = await on
        .selectFrom('jobs')
        .selectAll()
        .where('kind', '=', kind)
        .where('vfolder', '=', folder)
        .where('state', 'in', ['queued', 'running'])
        .execute()
      return rows.map((row) => ({ job: toJob(row), payload: JSON.parse(row.payload) }))
    },

    /** Those with one of these IDs, and up to `limit` of a request. */
    async listOf(requestId: string, { ids, limit }: { ids: string[]; limit: number }): Promise<Job[]> {
      const named = ids.length === 0 ? [] : await db.selectFrom('jobs').selectAll().where('id', 'in', ids).execute()
      const ofRequest = db.selectFrom('jobs').selectAll().where('request_id', '=', requestId)
      const rows = limit === 0 ? [] : await ofRequest.orderBy('sequence').limit(limit).execute()
      return [...named, ...rows.filter(({ id }) => !ids.includes(id))].map(toJob)
    },

    /** Waits for changes of a job; to be made before the look at it. */
    expectChange: (id: string, signal: AbortSignal) =>
      db.expect([channels.changed], (changed) => changed === id, signal),

    /** A job with the count of its changes so far. @throws {Problem} `job_not_found` */
    async watch(id: string): Promise<{ job: Job; version: number }> {
      const row = await getShown(id)
      return { job: toJob(row), version: row.version }
    },

    /** The newest first, before the given one. */
    async list(options: {
      limit: number
      before?: { createdAt: string; id: string }
      folder?: string
      kind?: string
      state?: Job['state']
    }): Promise<Job[]> {
      const { before, folder, kind, state } = options
      let query = db.selectFrom('jobs').select(shownColumns)
      if (folder !== undefined) query = query.where('vfolder', '=', folder)
      if (kind !== undefined) query = query.where('kind', '=', kind)
      if (state !== undefined) query = query.where('state', '=', state)
      if (before !== undefined) {
        query = query.where((eb) =>
          eb.or([
            eb('created_at', '<', before.createdAt),
            eb.and([eb('created_at', '=', before.createdAt), eb('id', '<', before.id)]),
          ]),
        )
      }
      const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(options.limit).execute()
      return rows.map(toJob)
    },

    /** The newest job of a kind that works on a vfolder, or on all of a volume. */
    async latest(
      kind: string,
      of: { folder: string } | { volume: string },
      on: Database = db,
    ): Promise<Job | undefined> {
      const ofKind = on.selectFrom('jobs').selectAll().where('kind', '=', kind)
      const query =
        'folder' in of
          ? ofKind.where('vfolder', '=', of.folder)
          : ofKind.where('vfolder', 'is', null).where('volume', '=', of.volume)
      const row = await query.orderBy('sequence', 'desc').limit(1).executeTakeFirst()
      return row && toJob(row)
    },

    /**
     * Cancels a job. One that runs is told at once, on whichever process; so what comes back may still be running.
     * @throws {Problem} `job_not_found`, `job_ended` or `job_not_cancellable`
     */
    async cancel(id: string): Promise<Job> {
      const cancelled = await transact(db, async (trx) => {
        const row = await trx
          .updateTable('jobs')
          .set((eb) => ({ cancel_requested: 1, version: eb('version', '+', 1) }))
          .where('id', '=', id)
          .returningAll()
          .executeTakeFirst()
        if (row === undefined) throw new Problem('job_not_found', `There is no job ${id}.`)
        if (row.state === 'cancelled') return row
        if (hasEnded(row)) throw new Problem('job_ended', `The job has ${row.state} already.`)
        const kind = kinds.get(row.kind)
        if (!kind?.cancellable) throw new Problem('job_not_cancellable', `A ${row.kind} job cannot be cancelled.`)
        if (row.committed !== 0) throw new Problem('job_not_cancellable', 'The job is about to end, and is not undone.')
        app.audit.write(trx, { action: 'job.cancel', ...auditedOf(row), origin: row.request_id })
        await db.notify(trx, channels.changed, id)
        if (row.state === 'running') {
          await db.notify(trx, channels.cancelled, id)
          return row
        }
        const finished = { state: 'cancelled', finished_at: new Date(db.now()).toISOString() } as const
        await trx.updateTable('jobs').set(finished).where('id', '=', id).execute()
        app.audit.write(trx, { action: 'job.end', outcome: 'cancelled', ...auditedOf(row) }, contextOf(row))
        await kind.ended?.({ id, folder: row.vfolder, payload: JSON.parse(row.payload) }, 'cancelled', trx)
        await tellEnd(app, trx, id, kind)
        return { ...row, ...finished }
      })
      app.log.info({ job_id: id, state: cancelled.state }, 'job cancellation requested')
      return toJob(cancelled)
    },

    /** Queues a job once more that has failed or was cancelled. */
    retry: createRetry(app, kinds),

    /** A job with the history of its attempts. @throws {Problem} `job_not_found` */
    async describe(id: string): Promise<JobDetails> {
      const job = toJob(await getShown(id))
      const attempts = await listAttempts(db, [id])
      return { ...job, history: attempts.map(({ job: _, ...attempt }) => attempt) }
    },

    /** How many there are of each kind, by their state. */
    summarize: () => summarize(db, [...kinds.keys()], db.now()),

    /** How many have not ended, and when the oldest queued one was queued, in milliseconds since 1970. */
    async countUnended(): Promise<{ kind: string; state: Job['state']; jobs: number; since: number }[]> {
      const rows = await db
        .selectFrom('jobs')
        .select(['kind', 'state'])
        .select(({ fn }) => [fn.countAll<number>().as('jobs'), fn.min(queuedAt).as('since')])
        .where('finished_at', 'is', null)
        .groupBy(['kind', 'state'])
        .execute()
      return rows.map((row) => ({ ...row, since: Date.parse(row.since) }))
    },

    kinds: (): string[] => [...kinds.keys()],

    /** Those that no living process can run. */
    stranded,

    async deleteOld(): Promise<void> {
      const oldest = new Date(db.now() - config.jobRetentionSeconds * 1000).toISOString()
      await transact(db, async (trx) => {
        const old = trx.deleteFrom('jobs').where('state', 'in', endStates).where('finished_at', '<', oldest)
        const ids = (await old.returning('id').execute()).map(({ id }) => id)
        await forgetAttempts(trx, ids)
      })
    },

    open: runner.open,
    close: runner.close,
  }
}

/** Durable background work: a job is a row, and any process goes on with it under the request ID that started it. */
export default fp(
  async (app) => {
    const jobs = createJobQueue(app)
    app.decorate('jobs', jobs)
    app.addHook('onReady', async () => {
      const { uploadCleanupIntervalSeconds } = app.config
      jobs.open()
      app.schedule('tell-stranded-jobs', Math.min(tellSeconds, uploadCleanupIntervalSeconds), jobs.stranded.tell)
      app.schedule('delete-old-jobs', Math.min(app.config.jobRetentionSeconds, 3600), () => jobs.deleteOld())
    })
    // Not in onClose: by then, what the jobs use may be closed.
    app.addHook('preClose', () => jobs.close())
  },
  { name: 'job-queue', dependencies: ['config', 'database', 'volumes', 'processes', 'scheduler', 'events', 'audit'] },
)
