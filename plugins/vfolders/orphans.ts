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
import { type Vfolder, vfolderNotFound } from './rows.ts'
import { vfolderCreated } from './told.ts'

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

/** The job that something begins with in each state: what is adopted is counted. */
const kinds = { ready: 'sync-quotas', deleting: 'delete-vfolder' } as const

const takings = { ready: 'folder.adopt', deleting: 'folder.remove-orphan' } as const

interface Taking {
  volume: Volume
  id: string
  state: keyof typeof kinds
  signal: AbortSignal
}

interface PageOptions {
  limit: number
  after?: string
  signal: AbortSignal
}

function createOrphans(app: FastifyInstance) {
  const db = app.database

  /**
   * A row, and a job, for what is on the storage, if there is none. The same call again gets the same job: its first
   * answer may have been lost.
   * @throws {Problem} `vfolder_exists`, `vfolder_not_found`
   */
  async function take({ volume, id, state, signal }: Taking): Promise<Job> {
    if ((await rows.find(db, id)) === undefined) {
      if (!(await isThere(volume, id, signal))) throw vfolderNotFound(id)
      const job = await transact(db, (trx) => begin({ volume, id, state }, trx))
      if (job !== undefined) return job
    }
    const earlier = await findEarlier({ volume, id, state })
    if (earlier !== undefined) return earlier
    throw new Problem(
      'vfolder_exists',
      `The vfolder ${id} is in the database; only what is not can be adopted or removed here.`,
    )
  }

  /** @returns undefined when there is a row */
  async function begin({ volume, id, state }: Omit<Taking, 'signal'>, trx: Database): Promise<Job | undefined> {
    const unlimited = { quota: { bytes: null, files: null }, quotaScope: null, metadata: {} }
    if (!(await rows.create(trx, { id, volume, ...unlimited }, db.now(), state))) return undefined
    const job = await app.jobs.enqueue({ kind: kinds[state], folder: id, volume: volume.name, payload: {} }, trx)
    if (state === 'ready') {
      await rows.rememberMaker(trx, id, job.id)
      await app.events.add(trx, vfolderCreated({ id, volume }, true))
    }
    app.audit.write(trx, { action: takings[state], folder: id, volume: volume.name, subject: job.id })
    return job
  }

  async function findEarlier({ volume, id, state }: Omit<Taking, 'signal'>): Promise<Job | undefined> {
    const vfolder = await rows.find(db, id)
    if (vfolder?.volume !== volume.name || vfolder.state !== state) return undefined
    // One that fails is followed by another one.
    if (state === 'deleting') return app.jobs.latest(kinds.deleting, { folder: id })
    const maker = await rows.findMaker(db, id)
    const job = maker === undefined ? undefined : (await app.jobs.find(maker))?.job
    return job?.kind === kinds.ready ? job : undefined
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
      const job = await take({ volume, id, state: 'ready', signal })
      return { vfolder: await app.vfolders.get(id), job }
    },

    /** Removes it, by a job. */
    remove: (volume: Volume, id: string, signal: AbortSignal): Promise<Job> =>
      take({ volume, id, state: 'deleting', signal }),
  }
}

/** Whether the storage has a vfolder of that ID. */
async function isThere({ backend }: Pick<Volume, 'backend'>, id: string, signal: AbortSignal): Promise<boolean> {
  try {
    for await (const _ of backend.list(id, { signal, limit: 1 })) return true
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
  { name: 'orphans', dependencies: ['database', 'volumes', 'vfolders', 'job-queue', 'events', 'audit'] },
)
