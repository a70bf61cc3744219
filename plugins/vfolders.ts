import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type Insertable, type Selectable, sql } from 'kysely'
import { LruMap as Cache } from 'toad-cache'
import type { Tables } from './database/tables.ts'
import { Problem } from './problems.ts'
import { createVfolderFiles } from './vfolder-files.ts'
import type { Volume } from './volumes.ts'

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
  usage: { bytes: number; files: number; syncedAt: string | null }
  metadata: Record<string, unknown>
  createdAt: string
}

/** Limits; null is none. */
export interface Quota {
  bytes: number | null
  files: number | null
}

export interface NewVfolder {
  id: string
  volume: Volume
  quota: Quota
  metadata: Record<string, unknown>
}

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
    if (vfolder === undefined || vfolder.state === 'deleting') throw notFound(id)
    return vfolder
  }

  async function ready(id: string): Promise<Vfolder> {
    const cached = cache.get(id)
    if (cached !== undefined) return cached
    const vfolder = await get(id)
    if (vfolder.state !== 'ready') throw notFound(id)
    cache.set(id, vfolder)
    return vfolder
  }

  async function addUsage(id: string, { bytes, files }: { bytes: number; files: number }): Promise<void> {
    if (bytes === 0 && files === 0) return
    await db
      .updateTable('vfolders')
      // The counters follow what this service does; they never go below nothing when others have removed files.
      .set({
        usage_bytes: notNegative('usage_bytes', bytes),
        usage_files: notNegative('usage_files', files),
      })
      .where('id', '=', id)
      .execute()
  }

  return {
    get,

    /**
     * Creates a vfolder, or finds the one of that ID: the same call twice is one vfolder. The row comes first, so that
     * a crash in between is finished by the next call, and nothing is on the storage that the database does not know.
     * @throws {Problem} `vfolder_exists` when it is on another volume
     */
    async create(input: NewVfolder, signal: AbortSignal): Promise<{ vfolder: Vfolder; created: boolean }> {
      const { numInsertedOrUpdatedRows } = await db
        .insertInto('vfolders')
        .values(toRow(input))
        .onConflict((conflict) => conflict.column('id').doNothing())
        .executeTakeFirstOrThrow()
      const existing = await find(input.id)
      if (existing?.volume !== input.volume.name || existing.state === 'deleting') {
        const where = existing?.state === 'deleting' ? 'and is being deleted' : `on volume ${existing?.volume}`
        throw new Problem('vfolder_exists', `The vfolder ${input.id} exists ${where}.`)
      }
      if (existing.state === 'creating') {
        await input.volume.backend.createFolder(input.id, { signal })
        await db.updateTable('vfolders').set({ state: 'ready' }).where('id', '=', input.id).execute()
      }
      return { vfolder: await get(input.id), created: numInsertedOrUpdatedRows === 1n }
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
        ...(metadata !== undefined && { metadata: JSON.stringify(metadata) }),
      }
      if (Object.keys(set).length > 0) await db.updateTable('vfolders').set(set).where('id', '=', id).execute()
      return get(id)
    },

    /** Makes the vfolder vanish at once; a deletion that a crash cut short is finished by the next call. */
    async remove(id: string, signal: AbortSignal): Promise<void> {
      const vfolder = await find(id)
      if (vfolder === undefined) throw notFound(id)
      await db.updateTable('vfolders').set({ state: 'deleting' }).where('id', '=', id).execute()
      cache.delete(id)
      await app.volumes.get(vfolder.volume).backend.removeFolder(id, { signal })
      await db.deleteFrom('vfolders').where('id', '=', id).execute()
    },

    /** The entries of a vfolder. @throws {Problem} `vfolder_not_found` */
    async files(id: string) {
      const vfolder = await ready(id)
      return createVfolderFiles(id, app.volumes.get(vfolder.volume), (change) => addUsage(id, change))
    },
  }
}

function notNegative(column: 'usage_bytes' | 'usage_files', change: number) {
  const sum = sql<number>`${sql.ref(column)} + ${change}`
  return sql<number>`case when ${sum} < 0 then 0 else ${sum} end`
}

function notFound(id: string): Problem {
  return new Problem('vfolder_not_found', `There is no vfolder ${id}.`)
}

function toRow({ id, volume, quota, metadata }: NewVfolder): Insertable<Tables['vfolders']> {
  return {
    id,
    volume: volume.name,
    state: 'creating',
    quota_bytes: quota.bytes,
    quota_files: quota.files,
    usage_synced_at: null,
    metadata: JSON.stringify(metadata),
    created_at: new Date().toISOString(),
  }
}

function toVfolder(row: Selectable<Tables['vfolders']>): Vfolder {
  return {
    id: row.id,
    volume: row.volume,
    state: row.state,
    quota: { bytes: row.quota_bytes, files: row.quota_files },
    usage: { bytes: row.usage_bytes, files: row.usage_files, syncedAt: row.usage_synced_at },
    metadata: JSON.parse(row.metadata),
    createdAt: row.created_at,
  }
}

/** What a vfolder is and does, for routes and jobs. */
export default fp(
  async (app) => {
    app.decorate('vfolders', createVfolders(app))
    // An aborted request still removes what it staged and counts what it stored. Hooks run in the reverse order of the
    // plugins, so this one before the database and the volumes close.
    app.addHook('onClose', async () => {
      await app.requestsSettled()
    })
  },
  { name: 'vfolders', dependencies: ['database', 'volumes', 'disconnect'] },
)
