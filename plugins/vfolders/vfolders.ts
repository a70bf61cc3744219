import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Insertable, Selectable } from 'kysely'
import { LruMap as Cache } from 'toad-cache'
import { invalid, Problem } from '../../lib/problems.ts'
import type { Database, Tables } from '../storage/database/tables.ts'
import type { Volume } from '../storage/volumes.ts'
import { hasEnded, type Job, toJob } from '../work/job-queue/job.ts'
import { createVfolderFiles, type OpenVfolder } from './files.ts'
import { type Quota, vfolderNotFound } from './quotas/limits.ts'

declare module 'fastify' {
  interface FastifyInstance {
    vfolders: ReturnType<typeof createVfolders>
  }
}

export interface Vfolder {
  id: string
  volume: string
  state: Tables['vfolders']['state']
  quota: Quota
  quotaScope: string | null
  usage: { bytes: number; files: number; syncedAt: string | null }
  metadata: Record<string, unknown>
  createdAt: string
}

export interface NewVfolder {
  id: string
  volume: Volume
  quota: Quota
  quotaScope: string | null
  metadata: Record<string, unknown>
}

/** What a clone job is given. */
export const ClonePayload = Type.Object({ source: Type.String() })
const isPayload = TypeCompiler.Compile(ClonePayload)

/** How long another process's change may go unseen by reads; changes of this process are seen at once. */
const cacheMilliseconds = 1000

function createVfolders(app: FastifyInstance) {
  const db = app.database
  const cache = new Cache<Vfolder>(10_000, cacheMilliseconds)

  async function find(id: string): Promise<Vfolder | undefined> {
    const row = await db.selectFrom('vfolders').selectAll().where('id', '=', id).executeTakeFirst()
    return row && toVfolder(row)
  }

  /** @throws {Problem} `vfolder_not_found` */
  async function get(id: string): Promise<Vfolder> {
    const vfolder = await find(id)
    if (vfolder === undefined || vfolder.state === 'deleting') throw vfolderNotFound(id)
    return vfolder
  }

  async function ready(id: string): Promise<Vfolder> {
    const cached = cache.get(id)
    if (cached !== undefined) return cached
    const vfolder = await get(id)
    if (vfolder.state === 'cloning') throw cloning(id)
    if (vfolder.state !== 'ready') throw vfolderNotFound(id)
    cache.set(id, vfolder)
    return vfolder
  }

  async function open(id: string): Promise<OpenVfolder> {
    const vfolder = await ready(id)
    return {
      id,
      volume: app.volumes.get(vfolder.volume),
      reserve: (wanted, options) => app.quotas.reserve(id, wanted, options),
    }
  }

  /** @throws {Problem} `vfolder_exists` unless the vfolder comes from that very source */
  async function cloneJob({ id, state }: Vfolder, source: string): Promise<Job> {
    if (state === 'deleting') throw exists(id, 'and is being deleted')
    // Not the newest of that ID: that may have made an earlier vfolder.
    const row = await db
      .selectFrom('vfolders')
      .innerJoin('jobs', 'jobs.id', 'vfolders.clone_job')
      .selectAll('jobs')
      .where('vfolders.id', '=', id)
      .executeTakeFirst()
    const payload: unknown = row && JSON.parse(row.payload)
    if (row !== undefined && isPayload.Check(payload) && payload.source === source) return toJob(row)
    throw exists(id, 'already')
  }

  /** The directory of a vfolder that was deleted while it was made would be nobody's. */
  async function forgetLate(input: NewVfolder): Promise<void> {
    await db.transaction().execute(async (trx) => {
      const { numInsertedOrUpdatedRows } = await trx
        .insertInto('vfolders')
        .values({ ...toRow(input), state: 'deleting' })
        .onConflict((conflict) => conflict.column('id').doNothing())
        .executeTakeFirstOrThrow()
      if (numInsertedOrUpdatedRows === 1n) await startDeletion(input.id, trx)
    })
  }

  /**
   * Lets a vfolder vanish, with the job that frees its bytes; whoever comes second is given the first one's job, of which
   * a later vfolder of that ID could become the prey.
   * @returns undefined when there is no such vfolder
   */
  async function startDeletion(id: string, trx: Database): Promise<Job | undefined> {
    const { numUpdatedRows } = await trx
      .updateTable('vfolders')
      .set({ state: 'deleting' })
      .where('id', '=', id)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows === 0n) return undefined
    const last = await app.jobs.latest('delete-vfolder', id, trx)
    if (last !== undefined && !hasEnded(last)) return last
    return app.jobs.enqueue({ kind: 'delete-vfolder', folder: id, payload: {} }, trx)
  }

  return {
    get,

    /**
     * Creates a vfolder, or finds the one of that ID: the same call twice is one vfolder. The row comes first, so that
     * a crash in between is finished by the next call, and nothing is on the storage that the database does not know.
     * @throws {Problem} `vfolder_exists` when it is on another volume, or is being deleted
     */
    async create(input: NewVfolder, signal: AbortSignal): Promise<{ vfolder: Vfolder; created: boolean }> {
      const { numInsertedOrUpdatedRows } = await db
        .insertInto('vfolders')
        .values(toRow(input))
        .onConflict((conflict) => conflict.column('id').doNothing())
        .executeTakeFirstOrThrow()
      const existing = await find(input.id)
      if (existing?.volume !== input.volume.name || existing.state === 'deleting') {
        throw exists(
          input.id,
          existing?.state === 'deleting' ? 'and is being deleted' : `on volume ${existing?.volume}`,
        )
      }
      const created = numInsertedOrUpdatedRows === 1n
      if (existing.state !== 'creating') return { vfolder: existing, created }
      await input.volume.backend.createFolder(input.id, { signal }).catch(async (error) => {
        // A deletion may take away what is being made.
        if ((await find(input.id))?.state === 'creating') throw error
      })
      await db
        .updateTable('vfolders')
        .set({ state: 'ready' })
        .where('id', '=', input.id)
        .where('state', '=', 'creating')
        .execute()
      const vfolder = await find(input.id)
      if (vfolder === undefined) await forgetLate(input)
      if (vfolder === undefined || vfolder.state === 'deleting') throw exists(input.id, 'and is being deleted')
      return { vfolder, created }
    },

    /** By ID, after the given one. */
    async list(options: { limit: number; after?: string; volume?: string }): Promise<Vfolder[]> {
      let query = db.selectFrom('vfolders').selectAll().where('state', '!=', 'deleting')
      if (options.after !== undefined) query = query.where('id', '>', options.after)
      if (options.volume !== undefined) query = query.where('volume', '=', options.volume)
      return (await query.orderBy('id').limit(options.limit).execute()).map(toVfolder)
    },

    async update(id: string, change: { quota?: Partial<Quota>; metadata?: Record<string, unknown> }): Promise<Vfolder> {
      const { quota, metadata } = change
      const set = {
        ...(quota?.bytes !== undefined && { quota_bytes: quota.bytes }),
        ...(quota?.files !== undefined && { quota_files: quota.files }),
        ...(metadata !== undefined && { metadata: asText(metadata) }),
      }
      if (Object.keys(set).length > 0) await db.updateTable('vfolders').set(set).where('id', '=', id).execute()
      return get(id)
    },

    /**
     * Makes the vfolder vanish at once, and gives the job that frees its bytes; the same job while that runs.
     * @throws {Problem} `vfolder_not_found`, or `vfolder_cloning` while a job makes it
     */
    async remove(id: string): Promise<Job> {
      const vfolder = await find(id)
      if (vfolder === undefined) throw vfolderNotFound(id)
      if (vfolder.state === 'cloning') throw cloning(id)
      const job = await db.transaction().execute((trx) => startDeletion(id, trx))
      cache.delete(id)
      if (job === undefined) throw vfolderNotFound(id)
      return job
    },

    /** The part of `remove` that must happen as one. */
    startDeletion,

    /**
     * Makes a vfolder that a job fills with what is in `source`; the same call twice is one vfolder and one job.
     * @throws {Problem} `vfolder_exists`, `vfolder_cloning`, `quota_exceeded` or `no_space`
     */
    async clone(source: Vfolder, input: NewVfolder, signal: AbortSignal): Promise<{ job: Job; vfolder: Vfolder }> {
      const { id } = input
      if (source.state !== 'ready') throw cloning(source.id)
      if (id === source.id) throw new Problem('invalid_operation', 'A vfolder cannot be cloned onto itself.')
      const existing = await find(id)
      if (existing !== undefined) return { job: await cloneJob(existing, source.id), vfolder: existing }
      const wanted = { bytes: source.usage.bytes, files: source.usage.files }
      if (input.volume.name !== source.volume) await refuseWithoutSpace(input.volume, wanted.bytes, signal)
      const job = await db.transaction().execute(async (trx) => {
        const { numInsertedOrUpdatedRows } = await trx
          .insertInto('vfolders')
          .values({ ...toRow(input), state: 'cloning' })
          .onConflict((conflict) => conflict.column('id').doNothing())
          .executeTakeFirstOrThrow()
        if (numInsertedOrUpdatedRows === 0n) return undefined
        await app.quotas.setAside(trx, id, wanted)
        const job = await app.jobs.enqueue({ kind: 'clone-vfolder', folder: id, payload: { source: source.id } }, trx)
        await trx.updateTable('vfolders').set({ clone_job: job.id }).where('id', '=', id).execute()
        return job
      })
      const vfolder = await get(id)
      return { job: job ?? (await cloneJob(vfolder, source.id)), vfolder }
    },

    /** A vfolder and its volume, for work that reads. @throws {Problem} `vfolder_not_found` or `vfolder_cloning` */
    ready,

    /** The entries of a vfolder. @throws {Problem} `vfolder_not_found` or `vfolder_cloning` */
    files: async (id: string) => createVfolderFiles(await open(id)),

    /** A vfolder that entries are to be copied or moved into. @throws as `files` does */
    open,
  }
}

/** A storage that is too small is told before the first byte, where it says its size. */
async function refuseWithoutSpace({ name, backend }: Volume, bytes: number, signal: AbortSignal): Promise<void> {
  const capacity = await backend.capacity?.({ signal })
  if (capacity === undefined || capacity.availableBytes >= bytes) return
  const members = { availableBytes: capacity.availableBytes, wantedBytes: bytes }
  throw new Problem('no_space', `Volume ${name} has ${capacity.availableBytes} bytes left of ${bytes} wanted.`, {
    members,
  })
}

function exists(id: string, how: string): Problem {
  return new Problem('vfolder_exists', `The vfolder ${id} exists ${how}.`)
}

function cloning(id: string): Problem {
  return new Problem('vfolder_cloning', `The vfolder ${id} is not whole yet; the job that makes it can be cancelled.`)
}

function toRow({ id, volume, quota, quotaScope, metadata }: NewVfolder): Insertable<Tables['vfolders']> {
  return {
    id,
    volume: volume.name,
    state: 'creating',
    quota_bytes: quota.bytes,
    quota_files: quota.files,
    quota_scope: quotaScope,
    usage_synced_at: null,
    metadata: asText(metadata),
    created_at: new Date().toISOString(),
  }
}

/** What is nested deeper than the call stack is read, but cannot be written. */
function asText(metadata: Record<string, unknown>): string {
  try {
    return JSON.stringify(metadata)
  } catch {
    throw invalid('body', 'metadata', 'must not be nested that deeply')
  }
}

function toVfolder(row: Selectable<Tables['vfolders']>): Vfolder {
  return {
    id: row.id,
    volume: row.volume,
    state: row.state,
    quota: { bytes: row.quota_bytes, files: row.quota_files },
    quotaScope: row.quota_scope,
    usage: { bytes: row.usage_bytes, files: row.usage_files, syncedAt: row.usage_synced_at },
    metadata: JSON.parse(row.metadata),
    createdAt: row.created_at,
  }
}

/** What a vfolder is and does, for routes and jobs. */
export default fp(
  async (app) => {
    app.decorate('vfolders', createVfolders(app))
  },
  { name: 'vfolders', dependencies: ['database', 'volumes', 'quotas', 'job-queue'] },
)
