import { randomUUID } from 'node:crypto'
import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Expression, sql } from 'kysely'
import { currentContext, withRequestId } from '../../../lib/context.ts'
import { Problem } from '../../../lib/problems.ts'
import { type Database, jobStates } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { type RunningAttempt, startAttempt } from './attempt.ts'
import { claimJobs } from './claim.ts'
import { hasEnded, type Job, type JobKind, type JobRow, toJob } from './job.ts'
import { createStranded } from './stranded.ts'

declare module 'fastify' {
  interface FastifyInstance {
    jobs: ReturnType<typeof createJobQueue>
  }
}

/** How long a job that another process queued may wait until this one finds it. */
const pollMilliseconds = 1000

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
  const volumes = app.volumes.all().map(({ name }) => name)
  const kinds = new Map<string, JobKind>()
  const stranded = createStranded(app)
  const running = new Map<string, { kind: string; attempt: RunningAttempt }>()
  let timer: NodeJS.Timeout | undefined
  let claiming: Promise<void> = Promise.resolve()
  let closing = false

  async function claim(): Promise<void> {
    for (const kind of kinds.values()) {
      const ofKind = [...running.values()].filter((other) => other.kind === kind.kind).length
      const limit = kind.concurrency - ofKind
      if (closing || limit <= 0) continue
      const claimed = await claimJobs(app, { kind: kind.kind, running: [...running.keys()], volumes, limit })
      for (const row of claimed) start(kind, row)
    }
  }

  function start(kind: JobKind, row: JobRow): void {
    const attempt = startAttempt(app, kind, row)
    running.set(row.id, { kind: kind.kind, attempt })
    attempt.done.then(() => {
      running.delete(row.id)
      wake()
    })
    if (closing) attempt.stop('closing')
  }

  /** Looks for work now. It runs outside of any request's context: each attempt has the context of its own job. */
  const look = withRequestId(async () => {
    try {
      await claim()
    } catch (error) {
      app.log.error({ err: error }, 'jobs could not be claimed')
    }
  }, randomUUID())

  function wake(): void {
    if (timer !== undefined && !closing) claiming = claiming.then(look)
  }

  async function findRow(id: string): Promise<JobRow | undefined> {
    return db.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst()
  }

  async function getRow(id: string): Promise<JobRow> {
    const row = await findRow(id)
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
    async enqueue({ kind, folder, volume, sourceVolume, payload }: NewJob, trx: Database = db): Promise<Job> {
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
          request_id: context?.request_id ?? randomUUID(),
          trace_id: context?.trace_id ?? null,
          due_at: db.now(),
          created_at: new Date(db.now()).toISOString(),
        })
        .returningAll()
        .executeTakeFirstOrThrow()
      // The transaction may not be committed by then, but the next look finds the job.
      setTimeout(wake, 5).unref()
      return toJob(row)
    },

    /** @throws {Problem} `job_not_found` */
    get: async (id: string): Promise<Job> => toJob(await getRow(id)),

    /** A job with what it was given. */
    async find(id: string): Promise<{ job: Job; payload: unknown } | undefined> {
      const row = await findRow(id)
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

    /** A job with the count of its changes so far. @throws {Problem} `job_not_found` */
    async watch(id: string): Promise<{ job: Job; version: number }> {
      const row = await getRow(id)
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
      let query = db.selectFrom('jobs').selectAll()
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

    /** The newest job of a kind that works on a vfolder. */
    async latest(kind: string, folder: string | null, on: Database = db): Promise<Job | undefined> {
      const row = await on
        .selectFrom('jobs')
        .selectAll()
        .where('kind', '=', kind)
        .where('vfolder', folder === null ? 'is' : '=', folder)
        .orderBy('sequence', 'desc')
        .limit(1)
        .executeTakeFirst()
      return row && toJob(row)
    },

    /**
     * Cancels a job. One that runs ends within a second, on whichever process; so what comes back may still be running.
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
        if (row.state === 'running') return row
        const finished = { state: 'cancelled', finished_at: new Date(db.now()).toISOString() } as const
        await trx.updateTable('jobs').set(finished).where('id', '=', id).execute()
        await kind.ended?.({ id, folder: row.vfolder, payload: JSON.parse(row.payload) }, 'cancelled', trx)
        return { ...row, ...finished }
      })
      app.log.info({ job_id: id, state: cancelled.state }, 'job cancellation requested')
      running.get(id)?.attempt.stop('cancelled')
      return toJob(cancelled)
    },

    /** Those that no living process can run. */
    stranded,

    async deleteOld(): Promise<void> {
      const oldest = new Date(db.now() - config.jobRetentionSeconds * 1000).toISOString()
      await db.deleteFrom('jobs').where('state', 'in', endStates).where('finished_at', '<', oldest).execute()
    },

    open(): void {
      timer = setInterval(wake, pollMilliseconds)
      wake()
    },

    /** Puts the running jobs back for the next process, with what they have done so far. */
    async close(): Promise<void> {
      closing = true
      clearInterval(timer)
      await claiming
      for (const { attempt } of running.values()) attempt.stop('closing')
      await Promise.all([...running.values()].map(({ attempt }) => attempt.done))
    },
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
  { name: 'job-queue', dependencies: ['config', 'database', 'volumes', 'processes', 'scheduler'] },
)
