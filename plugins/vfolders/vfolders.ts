import { Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { LruMap as Cache } from 'toad-cache'
import { atLeastNothing, difference } from '../../backends/amount.ts'
import { currentRequestId, newRequestId } from '../../lib/context.ts'
import { Problem } from '../../lib/problems.ts'
import type { Database } from '../storage/database/tables.ts'
import { transact } from '../storage/database/transact.ts'
import type { Volume } from '../storage/volumes.ts'
import { hasEnded, type Job } from '../work/job-queue/job.ts'
import { createVfolderFiles, type OpenVfolder } from './files.ts'
import { hasEntries, nameOnStorage } from './on-storage.ts'
import { queueCount } from './recount.ts'
import * as rows from './rows.ts'
import { type NewVfolder, type Vfolder, vfolderNotFound, vfolderTrashed } from './rows.ts'
import { requireSpace } from './space.ts'
import { applyQuota } from './storage-quota.ts'
import { vfolderCreated, vfolderDeleted } from './told.ts'
import { countedTrash } from './trash/rows.ts'

declare module 'fastify' {
  interface FastifyInstance {
    vfolders: ReturnType<typeof createVfolders>
  }
}

const Limit = Type.Union([Type.Integer(), Type.Null()])

/** What a clone job is given; with the vfolder to make, so that it can be made once more. */
export const ClonePayload = Type.Object({
  source: Type.String(),
  /** For whoever is told of its end. */
  sourceScope: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  target: Type.Optional(
    Type.Object({
      quota: Type.Object({ bytes: Limit, files: Limit }),
      quotaScope: Type.Union([Type.String(), Type.Null()]),
      metadata: Type.Record(Type.String(), Type.Unknown()),
      volume: Type.String(),
    }),
  ),
})
const isPayload = TypeCompiler.Compile(ClonePayload)

const MaybeScope = Type.Union([Type.String(), Type.Null()])

/** What a deletion is given: the scope that the vfolder had, unless nobody is to be told of its end. */
export const RemovalPayload = Type.Object({ quotaScope: Type.Optional(MaybeScope) })
const isRemoval = TypeCompiler.Compile(RemovalPayload)

/** How long another process's change may go unseen by reads; changes of this process are seen at once. */
const cacheMilliseconds = 1000

/** The job that frees the bytes of a vfolder, and where they are. */
interface Deletion {
  job: Job
  volume: string
}

function createVfolders(app: FastifyInstance) {
  const db = app.database
  const cache = new Cache<Vfolder>(10_000, cacheMilliseconds)
  const lastVolumes = new Cache<string>(10_000)

  /** Also one that is in the trash. @throws {Problem} `vfolder_not_found` */
  async function describe(id: string): Promise<Vfolder> {
    const vfolder = await rows.find(db, id)
    if (vfolder === undefined || vfolder.state === 'deleting') throw vfolderNotFound(id)
    lastVolumes.set(id, vfolder.volume)
    return vfolder
  }

  /** @throws {Problem} `vfolder_not_found`, `vfolder_trashed` */
  async function get(id: string): Promise<Vfolder> {
    const vfolder = await describe(id)
    if (vfolder.state === 'trashed') throw vfolderTrashed(id)
    return vfolder
  }

  async function ready(id: string): Promise<Vfolder> {
    return cache.get(id) ?? readyNow(id)
  }

  async function readyNow(id: string): Promise<Vfolder> {
    cache.delete(id)
    const vfolder = await get(id)
    if (vfolder.state === 'cloning') throw vfolderCloning(id)
    if (vfolder.state !== 'ready') throw vfolderNotFound(id)
    cache.set(id, vfolder)
    return vfolder
  }

  async function readySince(id: string, createdAt: string): Promise<Vfolder> {
    const vfolder = await readyNow(id)
    if (vfolder.createdAt !== createdAt) throw vfolderNotFound(id)
    return vfolder
  }

  async function open(id: string): Promise<OpenVfolder> {
    const vfolder = await ready(id)
    return {
      id,
      volume: app.volumes.get(vfolder.volume),
      reserve: (wanted, options) => app.quotas.reserve(id, wanted, options),
      requireRoom: (bytes) => app.quotas.requireRoom(id, bytes),
      recount: () => queueCount(app, id),
      audited: (facts, context) => app.audit.rows({ ...facts, folder: id, volume: vfolder.volume }, context),
    }
  }

  /** @throws {Problem} `vfolder_exists` unless the vfolder comes from that very source */
  async function getCloneJob({ id, state }: Vfolder, source: string): Promise<Job> {
    if (state === 'deleting') throw vfolderExists(id, 'and is being deleted')
    if (state === 'trashed') throw vfolderExists(id, inTrash)
    // Not the newest job of that ID, which may have made an earlier vfolder.
    const maker = await rows.findMaker(db, id)
    const found = maker === undefined ? undefined : await app.jobs.find(maker)
    if (found !== undefined && isPayload.Check(found.payload) && found.payload.source === source) return found.job
    throw vfolderExists(id, 'and is no clone of this one')
  }

  /** Makes the place of a vfolder whose row there is. */
  async function make(input: NewVfolder, signal: AbortSignal): Promise<void> {
    // Not so when another call has made it ready meanwhile.
    if ((await hasEntries(input, signal)) && (await rows.undoCreation(db, input.id))) throw orphaned(input)
    await input.volume.backend.createFolder(input.id, { signal, mode: input.mode }).catch(async (error) => {
      // A deletion may remove the vfolder while it is made.
      if ((await rows.find(db, input.id))?.state === 'creating') throw error
    })
    await applyQuota(app, { id: input.id, volume: input.volume.name }, { signal })
    await transact(db, async (trx) => {
      if (await rows.finishCreation(trx, input.id)) await app.events.add(trx, vfolderCreated(input))
      app.audit.write(trx, { action: 'folder.create', folder: input.id, volume: input.volume.name })
    })
  }

  /** The directory of a vfolder that is deleted while it is made would belong to nobody. */
  async function forgetLate(input: NewVfolder): Promise<void> {
    await transact(db, async (trx) => {
      if (await rows.create(trx, input, db.now(), 'deleting')) await startDeletion(input.id, trx)
    })
  }

  /**
   * Makes a vfolder vanish, and queues the job that frees its bytes. A second call gets the first one's job: a second
   * job could delete a later vfolder of the same ID. It waits for the first call, whose change locks the vfolder, and
   * then sees the job.
   * @param from what it must be: another vfolder of that ID may be there by now
   * @returns undefined when there is no such vfolder
   */
  async function startDeletion(id: string, trx: Database, from?: rows.DeletedFrom): Promise<Deletion | undefined> {
    const find = async () => (app.events.hasEnds ? (await rows.findCounters(trx, id, true))?.state : undefined)
    const before = from?.state ?? (await find())
    const deleted = await rows.beginDeletion(trx, id, from)
    if (deleted === undefined) return undefined
    const { volume, quotaScope } = deleted
    // What was never whole, nobody was told of.
    const isTold = before === 'ready' || before === 'trashed'
    if (isTold) await app.events.add(trx, vfolderDeleted(id, { volume, restorable: false }))
    const last = await app.jobs.latest('delete-vfolder', { folder: id }, trx)
    if (last !== undefined && !hasEnded(last)) return { job: last, volume }
    const payload = isTold || !app.events.hasEnds ? { quotaScope } : await payloadOf(last)
    return { job: await app.jobs.enqueue({ kind: 'delete-vfolder', folder: id, volume, payload }, trx), volume }
  }

  /** A deletion that failed is begun again as it was. */
  async function payloadOf(last: Job | undefined): Promise<Record<string, unknown>> {
    const found = last && (await app.jobs.find(last.id))
    return isRemoval.Check(found?.payload) ? found.payload : {}
  }

  /**
   * Makes the vfolder vanish at once, also from the trash, and gives the job that frees its bytes; the same job while that
   * runs.
   * @throws {Problem} `vfolder_not_found`, or `vfolder_cloning` while a job makes it
   */
  async function remove(id: string): Promise<Job> {
    // Locked, since another one of that ID may be there in the next moment.
    const job = await transact(db, async (trx) => removeIn(trx, id, (await rows.findCounters(trx, id, true))?.state))
    cache.delete(id)
    return job
  }

  async function removeIn(trx: Database, id: string, state: Vfolder['state'] | undefined): Promise<Job> {
    if (state === 'cloning') throw vfolderCloning(id)
    const deletion = await startDeletion(id, trx)
    if (deletion === undefined) throw vfolderNotFound(id)
    const { job, volume } = deletion
    app.audit.write(trx, { action: 'folder.delete', folder: id, volume, subject: job.id })
    return job
  }

  return {
    describe,

    get,

    /** The volume that this process last saw it on, for who only tells of it. */
    lastVolumeOf: (id: string): string | undefined => lastVolumes.get(id),

    /**
     * Creates a vfolder, or finds the one of that ID: the same call twice is one vfolder. The row comes first, so that
     * a crash in between is finished by the next call, and nothing is on the storage that the database does not know.
     * @throws {Problem} `vfolder_exists` when it is on another volume, or is being deleted
     */
    async create(input: NewVfolder, signal: AbortSignal): Promise<{ vfolder: Vfolder; created: boolean }> {
      nameOnStorage(input)
      const created = await rows.create(db, input, db.now())
      const existing = await rows.find(db, input.id)
      if (existing?.volume !== input.volume.name || existing.state === 'deleting') {
        const isThere = existing !== undefined && existing.state !== 'deleting'
        throw vfolderExists(input.id, isThere ? `on volume ${existing.volume}` : 'and is being deleted')
      }
      if (existing.state === 'trashed') throw vfolderExists(input.id, inTrash)
      if (existing.state !== 'creating') return { vfolder: existing, created }
      try {
        await make(input, signal)
      } catch (error) {
        // When that fails too, the first error is the one to tell, and the row goes later.
        await rows.undoCreation(db, input.id).catch(() => {})
        throw error
      }
      const vfolder = await rows.find(db, input.id)
      if (vfolder === undefined) await forgetLate(input)
      if (vfolder === undefined || vfolder.state === 'deleting') throw vfolderExists(input.id, 'and is being deleted')
      return { vfolder, created }
    },

    /** The volumes that have some. */
    listVolumes: (): Promise<string[]> => rows.listVolumes(db),

    /** In the order of their IDs, after the given one. */
    list: (options: Parameters<typeof rows.list>[1]): Promise<Vfolder[]> => rows.list(db, options),

    /** Limits hold on the storage too, where it keeps some; when that fails, the same call or the next sync does it. */
    async update(id: string, change: Parameters<typeof rows.change>[2], signal: AbortSignal): Promise<Vfolder> {
      await transact(db, async (trx) => {
        const volume = await rows.change(trx, id, change)
        app.audit.write(trx, { action: 'folder.update', folder: id, volume })
      })
      if (change.quota !== undefined) {
        await app.quotas.limitsChanged(id)
        await app.quotaWarnings.look(id)
      }
      const vfolder = await get(id)
      if (change.quota !== undefined && vfolder.state === 'ready') await applyQuota(app, vfolder, { signal })
      return vfolder
    },

    /**
     * Puts the vfolder into the trash, where it keeps all that it has until it is restored or emptied. What is not ready
     * has nothing to keep, and is removed; the same call again changes nothing.
     * @throws as `remove` does
     */
    async discard(id: string): Promise<{ vfolder: Vfolder } | { job: Job }> {
      const kept = { requestId: currentRequestId() ?? newRequestId(), counts: app.config.trashCountsTowardsQuota }
      const { isNew, job } = await transact(db, async (trx) => {
        const state = (await rows.findCounters(trx, id, true))?.state
        if (state === 'ready') {
          const volume = await rows.putIntoTrash(trx, id, { now: db.now(), ...kept })
          const isNew = volume !== undefined
          if (isNew) await app.events.add(trx, vfolderDeleted(id, { restorable: true }))
          app.audit.write(trx, { action: 'folder.delete', folder: id, volume })
          return { isNew }
        }
        return { isNew: false, job: state === 'trashed' ? undefined : await removeIn(trx, id, state) }
      })
      cache.delete(id)
      if (isNew) app.log.info({ folder: id }, 'vfolder put into the trash')
      return job === undefined ? { vfolder: await describe(id) } : { job }
    },

    /**
     * Takes the vfolder out of the trash; one that is ready stays so.
     * @throws {Problem} `vfolder_not_found`, or `quota_exceeded` when it did not count in its scope, which has no room
     */
    async restore(id: string): Promise<Vfolder> {
      const isRestored = await transact(db, async (trx) => {
        const taken = await rows.takeOutOfTrash(trx, id)
        if (taken === undefined) return false
        if (!taken.counted) await app.quotas.admitToScope(trx, id)
        await app.events.add(trx, { type: 'vfolder.restored', folder: id, data: {} })
        app.audit.write(trx, { action: 'folder.restore', folder: id, volume: taken.volume })
        return true
      })
      if (isRestored) app.log.info({ folder: id }, 'vfolder restored')
      return get(id)
    },

    remove,

    /**
     * The same for a caller who waits for the end of a job, whatever there is: where there is no such vfolder on the
     * volume the job has nothing to do.
     */
    async removeIfPresent(id: string, volume: Volume | undefined, quotaScope: string | null): Promise<Job> {
      const found = await rows.find(db, id)
      if (found !== undefined && found.volume === volume?.name && found.quotaScope === quotaScope) return remove(id)
      const on = volume === undefined ? {} : { volume: volume.name }
      return app.jobs.enqueue({ kind: 'delete-vfolder', folder: id, ...on, payload: { quotaScope } })
    },

    /** The part of `remove` that must happen as one. */
    startDeletion,

    /**
     * Makes a vfolder that a job fills with what is in `source`; the same call twice is one vfolder and one job.
     * @throws {Problem} `vfolder_exists`, `vfolder_cloning`, `quota_exceeded` or `no_space`
     */
    async clone(source: Vfolder, input: NewVfolder, signal: AbortSignal): Promise<{ job: Job; vfolder: Vfolder }> {
      const { id } = input
      if (source.state === 'cloning') throw vfolderCloning(source.id)
      if (source.state !== 'ready') throw vfolderNotFound(source.id)
      if (id === source.id) throw new Problem('invalid_operation', 'A vfolder cannot be cloned onto itself.')
      nameOnStorage(input)
      const existing = await rows.find(db, id)
      if (existing !== undefined) return { job: await getCloneJob(existing, source.id), vfolder: existing }
      if (await hasEntries(input, signal)) throw orphaned(input)
      // What is in the trash of the source stays there.
      const wanted = atLeastNothing(difference(source.usage, await countedTrash(db, source.id)))
      if (input.volume.name !== source.volume) await requireSpace(input.volume.backend, wanted.bytes, { signal })
      const job = await transact(db, async (trx) => {
        if (!(await rows.create(trx, input, db.now(), 'cloning'))) return undefined
        await app.quotas.setAside(trx, id, wanted)
        const volumes = { volume: input.volume.name, sourceVolume: source.volume }
        const { quota, quotaScope, metadata } = input
        const target = { quota, quotaScope, metadata, volume: input.volume.name }
        const payload = { source: source.id, sourceScope: source.quotaScope, target }
        const job = await app.jobs.enqueue({ kind: 'clone-vfolder', folder: id, ...volumes, payload }, trx)
        await rows.rememberMaker(trx, id, job.id)
        const begun = { action: 'folder.clone', outcome: 'begun', subject: source.id } as const
        app.audit.write(trx, { ...begun, folder: id, volume: input.volume.name })
        return job
      })
      const vfolder = await get(id)
      return { job: job ?? (await getCloneJob(vfolder, source.id)), vfolder }
    },

    /** A vfolder and its volume, for work that reads. @throws {Problem} `vfolder_not_found` or `vfolder_cloning` */
    ready,

    /** The same, as it is this moment: another process may have deleted it. */
    readyNow,

    /** The same, and not a later one of that ID. */
    readySince,

    /** The entries of a vfolder. @throws {Problem} `vfolder_not_found` or `vfolder_cloning` */
    files: async (id: string) => createVfolderFiles(await open(id)),

    /** Lets a job count the usage of a vfolder that is ready. */
    /** Lets a job count the usage, of which nobody can tell how it has changed. */
    recount: (id: string, trx?: Database) => queueCount(app, id, trx),

    /** A vfolder that entries are to be copied or moved into. @throws as `files` does */
    open,
  }
}

function orphaned({ id, volume }: NewVfolder): Problem {
  const what = `On volume ${volume.name} are files of a vfolder ${id} that the database does not know.`
  return new Problem('vfolder_orphaned', `${what} See POST /volumes/${volume.name}/orphans/${id}/adopt.`)
}

const inTrash = 'and is in the trash; restore it, or delete it with permanent=true first'

function vfolderExists(id: string, how: string): Problem {
  return new Problem('vfolder_exists', `The vfolder ${id} exists ${how}.`)
}

function vfolderCloning(id: string): Problem {
  return new Problem('vfolder_cloning', `The vfolder ${id} is not whole yet; the job that makes it can be cancelled.`)
}

/** What a vfolder is and does, for routes and jobs. */
export default fp(
  async (app) => {
    app.volumes.findScopesBy((id) => rows.findScope(app.database, id))
    app.decorate('vfolders', createVfolders(app))
  },
  {
    name: 'vfolders',
    dependencies: ['config', 'database', 'volumes', 'quotas', 'job-queue', 'events', 'audit', 'quota-warnings'],
  },
)
