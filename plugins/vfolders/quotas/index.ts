import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { difference, nothing, sum } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { Problem } from '../../../lib/problems.ts'
import { isPassing } from '../../storage/database/failures.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { count, findCounters, giveBack, vfolderNotFound } from '../rows.ts'
import { findAvailable, setAside, units } from './limits.ts'
import { covers, missingAhead, roomFor } from './room.ts'
import { createQuotaScopes } from './scopes.ts'

declare module 'fastify' {
  interface FastifyInstance {
    quotas: ReturnType<typeof createQuotas>
  }
}

export type Reservation = Awaited<ReturnType<ReturnType<typeof createQuotas>['reserve']>>

export interface ReserveOptions {
  partly?: boolean
  from?: string
}

function createQuotas({ database: db, processes, jobs, log }: FastifyInstance) {
  return {
    reserve,

    /**
     * Refuses so many bytes when there is no room for them even if they replace all that is in the vfolder.
     * @throws {Problem} `quota_exceeded` with the numbers, or `vfolder_not_found`
     */
    async requireRoom(vfolder: string, bytes: number): Promise<void> {
      const counters = await findCounters(db, vfolder)
      const reservation = await reserve(vfolder, roomFor(bytes, counters?.usage ?? nothing))
      await reservation.end()
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
      await transact(db, async (trx) => {
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
      })
    },

    /** Gives back what a job had set aside, and counts what it has made, in the transaction of its end. */
    async endOfJob(trx: Database, vfolder: string, job: string, by: Amount = nothing): Promise<void> {
      await endReservation(trx, { id: job, vfolder })
      if (by.bytes !== 0 || by.files !== 0) await count(trx, vfolder, by)
    },

    scopes: createQuotaScopes(db),

    /**
     * Ends what was set aside for an upload and counts the result, in one transaction with the other changes of `trx`.
     */
    async settleAside(trx: Database, vfolder: string, aside: Amount, by: Amount = nothing): Promise<void> {
      await giveBack(trx, vfolder, aside)
      if (by.bytes !== 0 || by.files !== 0) await count(trx, vfolder, by)
    },

    /** Whether work is under way that may change the usage. Its beginning and its end each change the revision. */
    async hasReservations(vfolder: string): Promise<boolean> {
      const query = db.selectFrom('reservations').select('id').where('vfolder', '=', vfolder)
      return (await query.limit(1).executeTakeFirst()) !== undefined
    },

    /** Forgets what is reserved in a vfolder that is gone. */
    async forget(trx: Database, vfolder: string): Promise<void> {
      await trx.deleteFrom('reservations').where('vfolder', '=', vfolder).execute()
    },

    /** Gives back what dead processes had reserved. */
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
   * notes that the usage is about to change. With `partly` less room will do, and more is asked for when it is used
   * up. An amount that comes `from` another vfolder changes nothing for a scope that both are in. The caller must
   * `end` what it was given.
   * @throws {Problem} `quota_exceeded` with the numbers, or `vfolder_not_found`
   */
  async function reserve(vfolder: string, wanted: Amount, { partly = false, from }: ReserveOptions = {}) {
    const id = randomUUID()
    const held = { ...wanted }
    let unsettled = nothing
    const createdAt = await transact(db, async (trx) => {
      if (partly) {
        const room = await findAvailable(trx, vfolder)
        for (const unit of units) held[unit] = Math.max(0, Math.min(wanted[unit], room[unit]))
      }
      return insert(trx, held)
    }).catch(async (error) => {
      // Whether it was committed is not known where the connection broke.
      if (isPassing(error)) await db.writeLater(() => transact(db, (trx) => endReservation(trx, { id, vfolder })))
      throw error
    })

    async function insert(trx: Database, amount: Amount): Promise<string> {
      const created = await setAside(trx, vfolder, amount, { from })
      await trx
        .insertInto('reservations')
        .values({
          id,
          vfolder,
          process: processes.id,
          ...amount,
          request_id: currentRequestId() ?? id,
          created_at: new Date(db.now()).toISOString(),
        })
        .execute()
      return created
    }

    /** As `confirm` says. */
    async function insertAgain(trx: Database, amount: Amount): Promise<void> {
      if ((await insert(trx, amount)) !== createdAt) throw vfolderNotFound(vfolder)
    }

    return {
      id,

      /** Sets more aside until `needed` is covered. @throws {Problem} `quota_exceeded` */
      async cover(needed: Amount): Promise<void> {
        if (covers(held, needed)) return
        const covering = await transact(db, async (trx) => {
          // Its row first, as everywhere, and only then the vfolder's: two that lock in another order wait for each other.
          const row = await trx
            .selectFrom('reservations')
            .select('id')
            .where('id', '=', id)
            .forUpdate()
            .executeTakeFirst()
          const more = await missingAhead(trx, vfolder, held, needed)
          const covering = sum(held, more)
          if (row === undefined) {
            await insertAgain(trx, covering)
          } else {
            await setAside(trx, vfolder, more, { held })
            await trx.updateTable('reservations').set(covering).where('id', '=', id).execute()
          }
          return covering
        })
        Object.assign(held, covering)
      },

      /**
       * Makes sure that all this is still set aside: it was given back if this process stood still for so long that
       * it was taken for dead. @throws {Problem} `quota_exceeded` when somebody else has the room by now, or
       * `vfolder_not_found` when the vfolder was deleted, also where there is another one of that ID
       */
      async confirm(): Promise<void> {
        const row = await db.selectFrom('reservations').select('id').where('id', '=', id).executeTakeFirst()
        if (row === undefined) await transact(db, (trx) => insertAgain(trx, held))
      },

      /**
       * Counts a change on the storage, and takes it out of the room that was set aside, as far as that goes. When the
       * database is away it is counted at the end: the change has been made.
       */
      async settle(by: Amount): Promise<void> {
        const used = { bytes: 0, files: 0 }
        for (const unit of units) used[unit] = Math.max(0, Math.min(by[unit], held[unit]))
        const settling = transact(db, async (trx) => {
          // The row is gone when this process was taken for dead; the room has been given back then.
          const { numUpdatedRows } = await trx
            .updateTable('reservations')
            .set((eb) => ({ bytes: eb('bytes', '-', used.bytes), files: eb('files', '-', used.files) }))
            .where('id', '=', id)
            .executeTakeFirstOrThrow()
          if (numUpdatedRows > 0n) await giveBack(trx, vfolder, used)
          await count(trx, vfolder, by)
        })
        const isSettled = await settling.then(
          () => true,
          (error) => {
            if (isPassing(error)) return false
            throw error
          },
        )
        if (isSettled) for (const unit of units) held[unit] -= used[unit]
        else unsettled = sum(unsettled, by)
      },

      /** Counts what has changed since, and gives back what was not used; when the database is away, later. */
      async end(by: Amount = nothing): Promise<void> {
        const changed = sum(unsettled, by)
        await db.writeLater(() =>
          transact(db, async (trx) => {
            await endReservation(trx, { id, vfolder })
            if (changed.bytes !== 0 || changed.files !== 0) await count(trx, vfolder, changed)
          }),
        )
      },
    }
  }

  async function endAbandoned() {
    const abandoned = await db
      .selectFrom('reservations')
      .selectAll()
      .where('process', 'not in', processes.alive())
      .where('id', 'not in', jobs.selectUnended())
      .execute()
    for (const { id, vfolder, bytes, files, request_id } of abandoned) {
      await transact(db, (trx) => endReservation(trx, { id, vfolder }))
      const fields = { upload_id: id, folder: vfolder, bytes, files, origin_request_id: request_id }
      log.info(fields, 'reservation of a dead process given back')
    }
    return abandoned
  }

  async function endReservation(trx: Database, { id, vfolder }: { id: string; vfolder: string }): Promise<void> {
    const rest = await trx.deleteFrom('reservations').where('id', '=', id).returningAll().executeTakeFirst()
    if (rest !== undefined) await giveBack(trx, vfolder, rest)
  }
}

/** Limits of vfolders and of their owners. They hold also for work that happens at the same time. */
export default fp(
  async (app) => {
    app.decorate('quotas', createQuotas(app))
  },
  { name: 'quotas', dependencies: ['database', 'processes', 'job-queue'] },
)
