import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Capable } from '../../backends/capabilities.ts'
import { Problem } from '../../lib/problems.ts'
import type { Database } from '../storage/database/tables.ts'
import { transact } from '../storage/database/transact.ts'
import { requireCapability, type Volume } from '../storage/volumes.ts'
import type { Job } from '../work/job-queue/job.ts'
import { isThere, nameOnStorage } from './on-storage.ts'
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

/** A vfolder that no row knows. */
export interface Orphan {
  id: string
  /** By which the storage keeps it, where it does so by quota scopes: a name of its scope. */
  scope?: string
}

interface Taking {
  volume: Volume
  id: string
  quotaScope: string | null
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
  async function take({ signal, ...orphan }: Taking): Promise<Job> {
    const { id } = orphan
    nameOnStorage(orphan, 'querystring')
    if ((await rows.find(db, id)) === undefined) {
      if (!(await isThere(orphan, signal))) throw vfolderNotFound(id)
      const job = await transact(db, (trx) => begin(orphan, trx))
      if (job !== undefined) return job
    }
    const earlier = await findEarlier(orphan)
    if (earlier !== undefined) return earlier
    throw new Problem(
      'vfolder_exists',
      `The vfolder ${id} is in the database; only what is not can be adopted or removed here.`,
    )
  }

  /** @returns undefined when there is a row */
  async function begin(orphan: Omit<Taking, 'signal'>, trx: Database): Promise<Job | undefined> {
    const { volume, id, state } = orphan
    if (!(await remember(orphan, trx))) return undefined
    const job = await app.jobs.enqueue({ kind: kinds[state], folder: id, volume: volume.name, payload: {} }, trx)
    if (state === 'ready') await rows.rememberMaker(trx, id, job.id)
    app.audit.write(trx, { action: takings[state], folder: id, volume: volume.name, subject: job.id })
    return job
  }

  /** @returns whether there was no row */
  async function remember({ volume, id, quotaScope, state }: Omit<Taking, 'signal'>, on: Database): Promise<boolean> {
    const unlimited = { quota: { bytes: null, files: null }, metadata: {} }
    if (!(await rows.create(on, { id, volume, quotaScope, ...unlimited }, db.now(), state))) return false
    if (state === 'ready') await app.events.add(on, vfolderCreated({ id, volume }, true))
    return true
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
     * The vfolders that the storage has and the database does not, in the storage's order. There may be more of
     * them behind `next`, also after a page that has none.
     * @throws {VolumeUnavailable}
     */
    async list(volume: Volume, { limit, after, signal }: PageOptions): Promise<{ orphans: Orphan[]; next?: string }> {
      const backend: Capable<'listFolders'> = requireCapability(volume, 'listFolders')
      // Another storage, or an empty one, would look as if nothing had been lost.
      await volume.identity.look()
      const orphans: Orphan[] = []
      let looked = 0
      let seen: Orphan[] = []
      const judge = async () => {
        const known = await rows.findKnown(
          db,
          seen.map(({ id }) => id),
        )
        orphans.push(...seen.filter(({ id }) => !known.has(id)))
        seen = []
      }
      for await (const name of backend.listFolders({ signal, ...(after !== undefined && { after }) })) {
        const found = toOrphan(name)
        if (uuid.test(found.id)) seen.push(found)
        looked++
        if (seen.length < Math.min(batch, limit - orphans.length) && looked < looksPerCall) continue
        await judge()
        if (orphans.length >= limit || looked >= looksPerCall) return { orphans, next: name }
      }
      await judge()
      return { orphans }
    },

    /**
     * Makes a vfolder of it again, without limits, which somebody is to count.
     * @returns false when it is gone, or no orphan any more
     */
    async register(orphan: Pick<Taking, 'volume' | 'id' | 'quotaScope'>, signal: AbortSignal): Promise<boolean> {
      // Asked after the row: whoever removes a vfolder forgets the row last.
      if (!(await isThere(orphan, signal))) return false
      return app.events.within(async (on) => {
        const isNew = await remember({ ...orphan, state: 'ready' }, on)
        if (isNew) app.audit.write(on, { action: takings.ready, folder: orphan.id, volume: orphan.volume.name })
        return isNew
      })
    },

    /** Makes a vfolder of it again, without limits; a job counts what is in it. */
    async adopt(orphan: Omit<Taking, 'state'>): Promise<{ vfolder: Vfolder; job: Job }> {
      const job = await take({ ...orphan, state: 'ready' })
      return { vfolder: await app.vfolders.get(orphan.id), job }
    },

    /** Removes it, by a job. */
    remove: (orphan: Omit<Taking, 'state'>): Promise<Job> => take({ ...orphan, state: 'deleting' }),
  }
}

/** See `folderOf` of the contract. */
function toOrphan(name: string): Orphan {
  const end = name.lastIndexOf('/')
  return end === -1 ? { id: name } : { id: name.slice(end + 1), scope: name.slice(0, end) }
}

/** What lies on a volume that no row knows, as after a restore of the database. */
export default fp(
  async (app) => {
    app.decorate('orphans', createOrphans(app))
  },
  { name: 'orphans', dependencies: ['database', 'volumes', 'vfolders', 'job-queue', 'events', 'audit'] },
)
