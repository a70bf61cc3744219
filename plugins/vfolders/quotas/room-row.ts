import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { difference, isNothing, nothing, sum } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { isPassing } from '../../storage/database/failures.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import type { AuditRow } from '../../work/audit/rows.ts'
import type { NewEvent } from '../../work/events/event.ts'
import { giveBack, reserveUnlimited, reserveWithin, units, vfolderNotFound } from '../rows.ts'
import { setAside } from './limits.ts'
import { hasRoomInScope } from './scopes.ts'

export type Services = Pick<FastifyInstance, 'database' | 'processes' | 'log' | 'events' | 'audit'>

export interface RowChange {
  /** What is set aside already, of what the row says. */
  kept: Amount
  wanted: Amount
  /** What nobody has asked for yet. */
  spare: Amount
  /** What has changed on the storage. */
  by: Amount
  /** What is told of it. */
  events: NewEvent[]
  /** What the audit trail says of that. */
  audited: AuditRow[]
  /** Whether the row, once it was removed, may come again. */
  mayReturn: boolean
}

/** The row that was there was removed, so this process was taken for dead, or the vfolder deleted. */
export class Superseded extends Error {}

/** There is a limit by now, so nothing may be spare. */
export class Limited extends Error {}

/** What a process has set aside in one vfolder, as the database has it. Its calls come one after the other. */
export class RoomRow {
  readonly #app: Services
  readonly #vfolder: string
  readonly #id = randomUUID()
  /** When the vfolder was created; undefined while there is no row. */
  #createdAt: string | undefined
  #held: Amount | undefined = nothing
  /** Whether the vfolder, or its scope, may have limits, as far as is known. */
  isLimited = true

  constructor(app: Services, vfolder: string) {
    this.#app = app
    this.#vfolder = vfolder
  }

  get isThere(): boolean {
    return this.#createdAt !== undefined
  }

  /** What the row says; undefined when that is not known. */
  get held(): Amount | undefined {
    return this.#held
  }

  /**
   * Writes down how much is set aside from now on, and what has changed on the storage.
   * @throws {Superseded}
   * @throws {Limited}
   * @throws {Problem} `quota_exceeded` or `vfolder_not_found`
   */
  async put(change: RowChange): Promise<void> {
    try {
      if (!(await this.#putAtOnce(change))) this.#createdAt = await this.#putByTransaction(change)
    } catch (error) {
      // Where a connection broke, it may have been committed.
      if (isPassing(error)) this.#held = undefined
      throw error
    }
    this.#held = targetOf(change)
  }

  async remove(): Promise<void> {
    await transact(this.#app.database.unflushed, async (trx) => {
      const row = await trx.deleteFrom('reservations').where('id', '=', this.#id).returningAll().executeTakeFirst()
      if (row !== undefined && !isNothing(row)) await giveBack(trx, this.#vfolder, row)
    })
    this.#createdAt = undefined
    this.#held = nothing
  }

  async #putByTransaction(change: RowChange): Promise<string> {
    const { kept, wanted, spare, by, events, mayReturn } = change
    const target = targetOf(change)
    const { database } = this.#app
    // What is told is promised; counters are not.
    return transact(events.length > 0 ? database : database.unflushed, async (trx) => {
      // Its row first, as everywhere, and only then the vfolder's.
      const before = this.#createdAt === undefined ? undefined : await this.#change(trx, target)
      const isGone = before === undefined && this.#createdAt !== undefined
      if (isGone && !mayReturn) throw new Superseded()
      // What was written has its room still, so only more of it is refused.
      const options = isGone ? { changed: by } : { freed: difference(before ?? nothing, kept), changed: by }
      const aside = await setAside(trx, this.#vfolder, isGone ? target : sum(wanted, spare), options)
      if (this.#createdAt !== undefined && aside.createdAt !== this.#createdAt) throw vfolderNotFound(this.#vfolder)
      if (aside.isLimited && !isNothing(spare)) throw new Limited()
      if (before === undefined) await this.#insert(trx, target)
      await this.#app.events.add(trx, ...events)
      this.isLimited = aside.isLimited
      this.#app.audit.writeRows(trx, change.audited)
      return aside.createdAt
    })
  }

  /** The same in one trip, where the row is there and all get room; @returns whether it was done */
  async #putAtOnce(change: RowChange): Promise<boolean> {
    const { wanted, spare, by: changed, events, audited } = change
    const { database, events: outbox, audit } = this.#app
    if (database.changeAll === undefined || this.#createdAt === undefined || this.#held === undefined) return false
    const target = targetOf(change)
    const vfolder = { id: this.#vfolder, createdAt: this.#createdAt }
    const amounts = { by: difference(target, this.#held), wanted, changed }
    const row = database.updateTable('reservations').set(target).where('id', '=', this.#id)
    const room = isNothing(spare)
      ? reserveWithin(database, vfolder, amounts, hasRoomInScope)
      : reserveUnlimited(database, vfolder, amounts)
    const queries = [row.compile(), room.compile(), ...outbox.toStatements(events)]
    if (audited.length > 0) queries.push(audit.insertion(audited))
    const isChanged = await database.changeAll(queries, events.length > 0)
    if (isChanged && events.length > 0) outbox.added()
    if (isChanged) audit.written(audited)
    return isChanged
  }

  /** @returns what the row said before; undefined when it was removed: this process was taken for dead */
  async #change(trx: Database, target: Amount): Promise<Amount | undefined> {
    const row = () => trx.selectFrom('reservations').select(units).where('id', '=', this.#id)
    const before = this.#held ?? (await row().forUpdate().executeTakeFirst())
    const update = trx.updateTable('reservations').set(target).where('id', '=', this.#id)
    const { numUpdatedRows } = await update.executeTakeFirstOrThrow()
    return numUpdatedRows > 0n ? before : undefined
  }

  async #insert(trx: Database, amount: Amount): Promise<void> {
    const { database, processes } = this.#app
    const id = this.#id
    const created_at = new Date(database.now()).toISOString()
    const row = { id, vfolder: this.#vfolder, process: processes.id, ...amount, created_at }
    await trx
      .insertInto('reservations')
      .values({ ...row, request_id: currentRequestId() ?? id })
      .execute()
  }
}

function targetOf({ kept, wanted, spare }: RowChange): Amount {
  return sum(sum(kept, wanted), spare)
}
