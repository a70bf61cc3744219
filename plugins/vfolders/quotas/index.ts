import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { difference, isNothing, nothing } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { currentRequestId, withRequestId } from '../../../lib/context.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { queueCount } from '../recount.ts'
import { count, findCounters, giveBack } from '../rows.ts'
import { admitToScope, setAside } from './limits.ts'
import { type OwnRoomOptions, ownRoom } from './own-room.ts'
import type { Reservation } from './reservation.ts'
import { roomFor } from './room.ts'
import { createRunning, endReservation } from './running.ts'
import { createQuotaScopes } from './scopes.ts'
import { SharedRoom } from './shared-room.ts'
import { createStorageUsage } from './storage-usage.ts'

declare module 'fastify' {
  interface FastifyInstance {
    quotas: ReturnType<typeof createQuotas>
  }
}

/** `shared`: for a small file, which is over in a moment. */
export type ReserveOptions = { kind: 'shared' } | ({ kind?: 'own' } & OwnRoomOptions)

/** `bounded`: by what it has reserved. */
export type Work = 'none' | 'bounded' | 'unbounded'

/** From this size on the storage is asked first. */
const largeBytes = 64 * 1024 * 1024

function createQuotas(app: FastifyInstance) {
  const { database: db, processes, jobs, events, audit, log } = app
  const rooms = new Map<string, SharedRoom>()
  const storageUsage = createStorageUsage(app)
  const running = createRunning(app)
  const services = { database: db, processes, events, audit, running }

  return {
    reserve,

    running,

    /** Takes room, and asks the storage before it is refused, where that tells the usage at once. */
    asking: storageUsage.asking,

    /**
     * Refuses so many bytes when there is no room for them even if they replace all that is in the vfolder.
     * @throws {Problem} `quota_exceeded` with the numbers, or `vfolder_not_found`
     */
    async requireRoom(vfolder: string, bytes: number): Promise<void> {
      const counters = await findCounters(db, vfolder)
      const wanted = roomFor(bytes, counters?.usage ?? nothing)
      if (wanted.bytes >= largeBytes) await storageUsage.ask(vfolder)
      // In one transaction: whoever is only told that there is no room keeps nobody else out for a moment.
      const look = async (trx: Database) => {
        await setAside(trx, vfolder, wanted)
        await giveBack(trx, vfolder, wanted)
      }
      await storageUsage.asking(vfolder, () => transact(db.unflushed, look))
    },

    /**
     * Sets room aside in a vfolder that only one job works on, until that job ends. Gives some back when `wanted` is
     * negative.
     * @throws {Problem} `quota_exceeded`
     */
    setAside,

    /** Makes what is set aside for a clone exactly `wanted`. @throws {Problem} `quota_exceeded` or `vfolder_not_found` */
    async setAsideExactly(vfolder: string, wanted: Amount): Promise<void> {
      await transact(db, async (trx) => {
        const counters = await findCounters(trx, vfolder, true)
        if (counters?.state !== 'cloning') {
          throw new Problem('vfolder_not_found', `There is no vfolder ${vfolder} to clone into.`)
        }
        await setAside(trx, vfolder, difference(wanted, counters.reserved), { held: counters.reserved })
      })
    },

    /**
     * Makes what a job has set aside in a vfolder exactly `wanted`. It stays set aside until `endOfJob`, whichever process
     * has the job by then. @throws {Problem} `quota_exceeded` or `vfolder_not_found`
     */
    async setAsideForJob(vfolder: string, job: string, wanted: Amount): Promise<void> {
      const take = async (trx: Database) => {
        const row = trx.selectFrom('reservations').selectAll().where('id', '=', job)
        const held = (await row.forUpdate().executeTakeFirst()) ?? nothing
        await setAside(trx, vfolder, difference(wanted, held), { held })
        const change = { ...wanted, process: processes.id }
        await trx
          .insertInto('reservations')
          .values({
            id: job,
            vfolder,
            ...change,
            request_id: currentRequestId() ?? job,
            created_at: new Date(db.now()).toISOString(),
          })
          .onConflict((conflict) => conflict.column('id').doUpdateSet(change))
          .execute()
      }
      await storageUsage.asking(vfolder, () => transact(db, take))
    },

    /** Gives back what a job had set aside, and counts what it has made, in the transaction of its end. */
    async endOfJob(trx: Database, vfolder: string, job: string, by: Amount = nothing): Promise<void> {
      await endReservation(trx, { id: job, vfolder })
      if (!isNothing(by)) await count(trx, vfolder, by)
    },

    /** Refuses a vfolder that its scope has no room for any more. @throws {Problem} `quota_exceeded` */
    admitToScope,

    scopes: createQuotaScopes(app, app.quotaWarnings.lookAtScope),

    /**
     * Ends what was set aside for an upload and counts the result, in one transaction with the other changes of `trx`.
     */
    async settleAside(trx: Database, vfolder: string, aside: Amount, by: Amount = nothing): Promise<void> {
      await giveBack(trx, vfolder, aside)
      if (!isNothing(by)) await count(trx, vfolder, by)
    },

    /**
     * What work is under way that may change the usage; its beginning and its end each change the revision. Work that
     * reserves nothing deletes or moves, maybe many files, and counts them at its end.
     */
    async workIn(vfolder: string): Promise<Work> {
      const query = db.selectFrom('reservations').where('vfolder', '=', vfolder)
      const row = await query
        .select((eb) => eb.fn.min<number>(eb('bytes', '+', eb.ref('files'))).as('least'))
        .executeTakeFirst()
      const least = row?.least ?? null
      if (least === null) return 'none'
      return least > 0 ? 'bounded' : 'unbounded'
    },

    /** Has the rows removed that wait for more work, where none is under way. */
    async rest(vfolder?: string): Promise<void> {
      const resting = vfolder === undefined ? [...rooms.values()] : [rooms.get(vfolder)]
      await Promise.all(resting.map((room) => room?.rest()))
    },

    /** Forgets what is reserved in a vfolder that is gone. */
    async forget(trx: Database, vfolder: string): Promise<void> {
      rooms.get(vfolder)?.doubt()
      await trx.deleteFrom('reservations').where('vfolder', '=', vfolder).execute()
    },

    /** To be called after the limits of a vfolder were changed. */
    async limitsChanged(vfolder: string): Promise<void> {
      await rooms.get(vfolder)?.limitsChanged()
    },

    /** Gives back what dead processes had reserved, and has the vfolders counted. */
    endAbandoned,

    /** Finds out which processes that work on a vfolder are dead. @returns whether any was, and left a reservation */
    async endOfTheDead(vfolder: string, signal: AbortSignal): Promise<boolean> {
      const others = await db
        .selectFrom('reservations')
        .select('process')
        .distinct()
        .where('vfolder', '=', vfolder)
        .where('process', '!=', processes.id)
        .execute()
      if (others.length === 0) return false
      const ids = others.map(({ process }) => process)
      await processes.settled(ids, signal)
      return (await endAbandoned()).some((ended) => ended.vfolder === vfolder)
    },
  }

  /**
   * Sets room aside for work on a vfolder, so that nothing else can take it meanwhile; with nothing wanted it only
   * notes that the usage is about to change. The caller must `end` what it was given.
   * @throws {Problem} `quota_exceeded` with the numbers, or `vfolder_not_found`
   */
  async function reserve(vfolder: string, wanted: Amount, options: ReserveOptions = {}): Promise<Reservation> {
    // Before so many bytes are sent, the storage tells whether there is room for them.
    const isShared = options.kind === 'shared'
    if (!isShared && (options.ask || wanted.bytes >= largeBytes)) await storageUsage.ask(vfolder)
    const take = () => (isShared ? roomIn(vfolder).take(wanted) : ownRoom(services, vfolder, wanted, options))
    const reservation = await storageUsage.asking(vfolder, take)
    return {
      ...reservation,
      cover: (needed) => storageUsage.asking(vfolder, () => reservation.cover(needed)),
    }
  }

  function roomIn(vfolder: string): SharedRoom {
    const known = rooms.get(vfolder)
    if (known !== undefined) return known
    const forget = (room: SharedRoom) => {
      if (rooms.get(vfolder) === room) rooms.delete(vfolder)
    }
    const next = (room: SharedRoom) => {
      forget(room)
      return roomIn(vfolder)
    }
    const room = new SharedRoom(app, vfolder, { next, forget })
    rooms.set(vfolder, room)
    return room
  }

  async function endAbandoned() {
    const abandoned = await db
      .selectFrom('reservations')
      .selectAll()
      .where('process', 'not in', processes.alive())
      .where('id', 'not in', jobs.selectUnended())
      .execute()
    for (const { id, vfolder, bytes, files, request_id } of abandoned) {
      const end = () =>
        transact(db, async (trx) => {
          await endReservation(trx, { id, vfolder })
          // What the dead process had changed by then, nobody has counted.
          await queueCount(app, vfolder, trx)
        })
      await withRequestId(end, request_id)()
      const fields = { upload_id: id, folder: vfolder, bytes, files, origin_request_id: request_id }
      log.info(fields, 'reservation of a dead process given back')
    }
    return abandoned
  }
}

/** Limits of vfolders and of their owners. They hold also for work that happens at the same time. */
export default fp(
  async (app) => {
    const quotas = createQuotas(app)
    app.decorate('quotas', quotas)
    // A database that is away by then finds the rows to be those of a dead process.
    app.addHook('onClose', () => quotas.rest().catch((err) => app.log.info({ err }, 'room was not given back')))
  },
  {
    name: 'quotas',
    dependencies: ['database', 'volumes', 'processes', 'audit', 'job-queue', 'events', 'quota-warnings'],
  },
)
