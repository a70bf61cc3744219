import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { isNothing, nothing, sum } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { DatabaseUnavailable, isPassing } from '../../storage/database/failures.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import type { AuditRow } from '../../work/audit/rows.ts'
import type { NewEvent } from '../../work/events/event.ts'
import { count, giveBack, units, vfolderNotFound } from '../rows.ts'
import { filesStored, type Stored } from '../told.ts'
import { findAvailable, setAside } from './limits.ts'
import type { Reservation } from './reservation.ts'
import { covers, missingAhead } from './room.ts'
import { endReservation, type Running } from './running.ts'

export interface OwnRoomOptions {
  /** Less room will do, and more is asked for when it is used up. */
  partly?: boolean
  /** Another vfolder that this comes from, which changes nothing for a scope that both are in. */
  from?: string
  /** The storage is asked first: it may not refuse it itself, as where copies share blocks. */
  ask?: boolean
}

type Services = Pick<FastifyInstance, 'database' | 'processes' | 'events' | 'audit'> & { running: Running }

/**
 * Sets room aside in a row of its own.
 * @throws {Problem} `quota_exceeded` with the numbers, or `vfolder_not_found`
 */
export async function ownRoom(
  { database: db, processes, events, audit, running }: Services,
  vfolder: string,
  wanted: Amount,
  { partly = false, from }: OwnRoomOptions,
): Promise<Reservation> {
  const id = randomUUID()
  const held = { ...wanted }
  let unsettled = nothing
  let untold: NewEvent[] = []
  const createdAt = await transact(db.unflushed, async (trx) => {
    if (partly) {
      const room = await findAvailable(trx, vfolder)
      for (const unit of units) held[unit] = Math.max(0, Math.min(wanted[unit], room[unit]))
    }
    return insert(trx, held)
  }).catch(async (error) => {
    // Whether it was committed is not known where the connection broke.
    if (error instanceof DatabaseUnavailable)
      await db.writeLater(() => transact(db.unflushed, (trx) => endReservation(trx, { id, vfolder })))
    throw error
  })

  async function insert(trx: Database, amount: Amount): Promise<string> {
    const aside = await setAside(trx, vfolder, amount, { from })
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
    return aside.createdAt
  }

  const { ended, forget } = running.follow(id)

  /** What is told is promised; counters are not. */
  const durably = (told: NewEvent[]) => (told.length > 0 ? db : db.unflushed)

  /** As `confirm` says. */
  async function insertAgain(trx: Database, amount: Amount): Promise<void> {
    if ((await insert(trx, amount)) !== createdAt) throw vfolderNotFound(vfolder)
  }

  return {
    ended,

    async cover(needed: Amount): Promise<void> {
      ended.throwIfAborted()
      if (covers(held, needed)) return
      const covering = await transact(db.unflushed, async (trx) => {
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

    async confirm(): Promise<void> {
      ended.throwIfAborted()
      const row = await db.selectFrom('reservations').select('id').where('id', '=', id).executeTakeFirst()
      if (row === undefined) await transact(db.unflushed, (trx) => insertAgain(trx, held))
    },

    async settle(by: Amount, stored?: Stored, audited: AuditRow[] = []): Promise<void> {
      const told = events.isOn && stored !== undefined ? filesStored(vfolder, [stored]) : []
      const used = { bytes: 0, files: 0 }
      for (const unit of units) used[unit] = Math.max(0, Math.min(by[unit], held[unit]))
      const settling = transact(durably(told), async (trx) => {
        // The row is gone when this process was taken for dead; the room has been given back then.
        const { numUpdatedRows } = await trx
          .updateTable('reservations')
          .set((eb) => ({ bytes: eb('bytes', '-', used.bytes), files: eb('files', '-', used.files) }))
          .where('id', '=', id)
          .executeTakeFirstOrThrow()
        if (numUpdatedRows > 0n) await giveBack(trx, vfolder, used)
        await count(trx, vfolder, by)
        await events.add(trx, ...told)
        audit.writeRows(trx, audited)
      })
      const isSettled = await settling.then(
        () => true,
        (error) => {
          audit.keep(audited)
          if (isPassing(error)) return false
          throw error
        },
      )
      if (isSettled) {
        for (const unit of units) held[unit] -= used[unit]
      } else {
        unsettled = sum(unsettled, by)
        untold = [...untold, ...told]
      }
    },

    async end(by: Amount = nothing, more: NewEvent[] = [], audited: AuditRow[] = []): Promise<void> {
      const changed = sum(unsettled, by)
      const told = [...untold, ...more]
      forget()
      await db.writeLater(() =>
        transact(durably(told), async (trx) => {
          await endReservation(trx, { id, vfolder })
          if (!isNothing(changed)) await count(trx, vfolder, changed)
          await events.add(trx, ...told)
          audit.writeRows(trx, audited)
        }),
      )
    },
  }
}
