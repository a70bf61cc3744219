import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Capable } from '../../backends/capabilities.ts'
import { NotFound } from '../../backends/errors.ts'
import { Problem } from '../../lib/problems.ts'
import type { Database } from '../storage/database/tables.ts'
import { transact } from '../storage/database/transact.ts'
import { requireCapability, type Volume } from '../storage/volumes.ts'
import type { Job } from '../work/job-queue/job.ts'
import * as rows from './rows.ts'
import { type NewVfolder, type Vfolder, vfolderNotFound } from './rows.ts'

declare module 'fastify' {
  interface FastifyInstance {
    orphans: ReturnType<typeof createOrphans>
  }
}

/** How many vfolders of a volume one call looks at, so that it comes to its end. */
const looksPerCall = 10_000
/** How many are asked for in one statement. */
const batch = 500

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

interface PageOptions {
  limit: number
  after?: string
  signal: AbortSignal
}

function createOrphans(app: FastifyInstance) {
  const db = app.database

  /** A row for what is on the storage, if there is none. @throws {Problem} `vfolder_exists`, `vfolder_not_found` */
  async function take<T>(
    { name, backend }: Volume,
    id: string,
    state: 'ready' | 'deleting',
    signal: AbortSignal,
    enqueue: (trx: Database) => Promise<T>,
  ): Promise<T> {
    if (!(await isThere({ backend }, id, signal))) throw vfolderNotFound(id)
    return transact(db, async (trx) => {
      const unlimited: NewVfolder = {
        id,
        volume: app.volumes.get(name),
        quota: { bytes: null, files: null },
        quotaScope: null,
        metadata: {},
      }
      if (await rows.create(trx, unlimited, state)) return enqueue(trx)
      throw new Problem(
        'vfolder_exists',
        `The vfolder ${id} is in the database; only what is not can be adopted or removed here.`,
      )
    })
  }

  return {
    /**
     * The IDs of vfolders that the storage has and the database does not, in the storage's order. There may be more of
     * them behind `next`, also after a page that has none.
     */
    async list(volume: Volume, { limit, after, signal }: PageOptions): Promise<{ ids: string[]; next?: string }> {
      const backend: Capable<'listFolders'> = requireCapability(volume, 'listFolders')
      const ids: string[] = []
      let looked = 0
      let seen: string[] = []
      const judge = async () => {
        const known = await rows.findKnown(db, seen)
        ids.push(...seen.filter((id) => !known.has(id)))
        seen = []
      }
      for await (const id of backend.listFolders({ signal, ...(after !== undefined && { after }) })) {
        if (uuid.test(id)) seen.push(id)
        looked++
        if (seen.length < Math.min(batch, limit - ids.length) && looked < looksPerCall) continue
        await judge()
        if (ids.length >= limit || looked >= looksPerCall) return { ids, next: id }
      }
      await judge()
      return { ids }
    },

    /** Makes a vfolder of it again, without limits; a job counts what is in it. */
    async adopt(volume: Volume, id: string, signal: AbortSignal): Promise<{ vfolder: Vfolder; job: Job }> {
      const job = await take(volume, id, 'ready', signal, (trx) =>
        app.jobs.enqueue({ kind: 'sync-quotas', folder: id, volume: volume.name, payload: {} }, trx),
      )
      return { vfolder: await app.vfolders.get(id), job }
    },

    /** Removes it, by a job. */
    remove: (volume: Volume, id: string, signal: AbortSignal): Promise<Job> =>
      take(volume, id, 'deleting', signal, (trx) =>
        app.jobs.enqueue({ kind: 'delete-vfolder', folder: id, volume: volume.name, payload: {} }, trx),
      ),
  }
}

/** Whether the storage has a vfolder of that ID. */
async function isThere({ backend }: Pick<Volume, 'backend'>, id: string, signal: AbortSignal): Promise<boolean> {
  try {
    for await (const _ of backend.list(id, { signal })) return true
    return true
  } catch (error) {
    if (error instanceof NotFound) return false
    throw error
  }
}

/** What lies on a volume that no row knows, as after a restore of the database. */
export default fp(
  async (app) => {
    app.decorate('orphans', createOrphans(app))
  },
  { name: 'orphans', dependencies: ['database', 'volumes', 'vfolders', 'job-queue'] },
)
