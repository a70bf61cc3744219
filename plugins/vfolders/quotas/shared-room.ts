import { randomUUID } from 'node:crypto'
import { setImmediate as othersTurn } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { add, difference, isNothing, nothing, subtract, sum } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { currentRequestId } from '../../../lib/context.ts'
import { Problem } from '../../../lib/problems.ts'
import { isPassing } from '../../storage/database/failures.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { count, giveBack, reserveWithin, vfolderNotFound } from '../rows.ts'
import { setAside, units } from './limits.ts'
import type { Reservation } from './reservation.ts'
import { covers, missing } from './room.ts'
import { hasRoomInScope } from './scopes.ts'

/** How long the row stays when nobody needs it: the next file mostly comes at once. */
const idleMilliseconds = 50
/** A process that stood still for less cannot have been taken for dead, and a deletion takes as long to be seen. */
const sureMilliseconds = 100

type Services = Pick<FastifyInstance, 'database' | 'processes' | 'log'>

interface Want {
  amount: Amount
  /** Of an upload that begins. */
  isNew: boolean
  granted(): void
  refused(error: unknown): void
}

interface Write {
  /** What is set aside already, of what the row says. */
  kept: Amount
  wanted: Amount
  by: Amount
  /** Whether the row, once it was removed, may come again. */
  mayReturn: boolean
}

interface Change {
  /** Undefined: it only asks whether the room is still there. */
  by: Amount | undefined
  /** What it has no need of any more. */
  freed: Amount
  done(): void
  failed(error: unknown): void
}

/**
 * The room that small uploads of this process have set aside in one vfolder, in one row. All that ask in the same turn
 * of the event loop, or while others are written down, share one transaction: for a small file a transaction of its own
 * would be most of the work. Exact all the same: no room is set aside that nobody has asked for.
 */
export class SharedRoom {
  readonly #app: Services
  readonly #vfolder: string
  readonly #others: Others
  readonly #id = randomUUID()
  /** When the vfolder was created; undefined while there is no row. */
  #createdAt: string | undefined
  /** What the row says; undefined when that is not known. */
  #held: Amount | undefined = nothing
  /** What is under way. */
  readonly #used = { ...nothing }
  readonly #wants: Want[] = []
  readonly #changes: Change[] = []
  #open = 0
  #checkedAt = Number.NEGATIVE_INFINITY
  #writing: Promise<void> | undefined
  #idle: NodeJS.Timeout | undefined
  #lost: { error: unknown } | undefined

  constructor(app: Services, vfolder: string, others: Others) {
    this.#app = app
    this.#vfolder = vfolder
    this.#others = others
  }

  /** @throws {Problem} `quota_exceeded` or `vfolder_not_found` */
  async take(wanted: Amount): Promise<Reservation> {
    this.#open++
    try {
      await this.#want(wanted, true)
    } catch (error) {
      this.#leave()
      if (!(error instanceof Superseded)) throw error
      return this.#others.next(this).take(wanted)
    }
    return this.#reservation({ ...wanted })
  }

  #reservation(held: Amount): Reservation {
    return {
      cover: async (needed) => {
        if (covers(held, needed)) return
        const more = missing(held, needed)
        await this.#want(more, false)
        add(held, more)
      },
      confirm: async () => {
        if (performance.now() - this.#checkedAt > sureMilliseconds) await this.#change(undefined)
      },
      settle: async (by) => {
        const used = { ...nothing }
        for (const unit of units) used[unit] = Math.max(0, Math.min(by[unit], held[unit]))
        subtract(held, used)
        await this.#change(by, used)
      },
      end: async (by = nothing) => {
        try {
          if (!isNothing(held) || !isNothing(by)) await this.#change(by, held)
        } finally {
          this.#leave()
        }
      },
    }
  }

  /** The row may have been removed: the next one to confirm looks. */
  doubt(): void {
    this.#checkedAt = Number.NEGATIVE_INFINITY
  }

  /** Removes the row, unless something is under way. */
  async rest(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing
    if (this.#open > 0) return
    clearTimeout(this.#idle)
    if (this.#createdAt !== undefined && this.#lost === undefined) {
      this.#writing = this.#remove().finally(() => this.#written())
      await this.#writing
    }
    if (this.#open === 0) this.#others.forget(this)
  }

  #leave(): void {
    this.#open--
    if (this.#open > 0) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => {
      this.rest().catch((err) => this.#app.log.warn({ err }, 'room could not be given back yet'))
    }, idleMilliseconds).unref()
  }

  #want(amount: Amount, isNew: boolean): Promise<void> {
    return new Promise((granted, refused) => {
      this.#wants.push({ amount, isNew, granted, refused })
      this.#wake()
    })
  }

  #change(by: Amount | undefined, freed = nothing): Promise<void> {
    return new Promise((done, failed) => {
      this.#changes.push({ by, freed, done, failed })
      this.#wake()
    })
  }

  #wake(): void {
    if (this.#writing !== undefined || this.#wants.length + this.#changes.length === 0) return
    this.#writing = othersTurn()
      .then(() => this.#write(this.#wants.splice(0), this.#changes.splice(0)))
      .finally(() => this.#written())
  }

  #written(): void {
    this.#writing = undefined
    this.#wake()
  }

  async #write(wants: Want[], changes: Change[]): Promise<void> {
    const wanted = sumOf(wants.map(({ amount }) => amount))
    const by = sumOf(changes.map((change) => change.by ?? nothing))
    const freed = sumOf(changes.map((change) => change.freed))
    try {
      if (this.#lost !== undefined) throw wants.some(({ isNew }) => isNew) ? new Superseded() : this.#lost.error
      const kept = difference(this.#used, freed)
      await this.#put({ kept, wanted, by, mayReturn: !wants.some(({ isNew }) => isNew) })
    } catch (error) {
      if (isForOne(error) && wants.length > 0 && wants.length + changes.length > 1) {
        // When not all get room, each is told whether it does, in the order of asking.
        if (changes.length > 0) await this.#write([], changes)
        for (const want of wants) await this.#write([want], [])
        return
      }
      for (const { refused } of wants) refused(error)
      subtract(this.#used, freed)
      if (changes.length > 0) await this.#countAlone(error, changes, by)
      return
    }
    subtract(this.#used, freed)
    add(this.#used, wanted)
    for (const { granted } of wants) granted()
    for (const { done } of changes) done()
  }

  /** Writes down how much is set aside from now on, and what has changed on the storage. */
  async #put(write: Write): Promise<void> {
    const { kept, wanted, by, mayReturn } = write
    const { database } = this.#app
    const begun = performance.now()
    const target = sum(kept, wanted)
    try {
      if (await this.#putAtOnce(write)) {
        this.#held = target
        this.#checkedAt = begun
        return
      }
      this.#createdAt = await transact(database.unflushed, async (trx) => {
        // Its row first, as everywhere, and only then the vfolder's.
        const before = this.#createdAt === undefined ? undefined : await this.#changeRow(trx, target)
        const isGone = before === undefined && this.#createdAt !== undefined
        if (isGone && !mayReturn) throw new Superseded()
        // What was written has its room still, so only more of it is refused.
        const options = isGone ? { changed: by } : { freed: difference(before ?? nothing, kept), changed: by }
        const createdAt = await setAside(trx, this.#vfolder, isGone ? target : wanted, options)
        if (this.#createdAt !== undefined && createdAt !== this.#createdAt) throw vfolderNotFound(this.#vfolder)
        if (before === undefined) await this.#insertRow(trx, target)
        return createdAt
      })
    } catch (error) {
      // Where a connection broke, it may have been committed.
      if (isPassing(error)) this.#held = undefined
      throw error
    }
    this.#held = target
    this.#checkedAt = begun
  }

  /** The same in one trip, where the row is there and all get room; @returns whether it was done */
  async #putAtOnce({ kept, wanted, by: changed }: Write): Promise<boolean> {
    const { database } = this.#app
    if (database.changeAll === undefined || this.#createdAt === undefined || this.#held === undefined) return false
    const target = sum(kept, wanted)
    const vfolder = { id: this.#vfolder, createdAt: this.#createdAt }
    const change = { by: difference(target, this.#held), wanted, changed }
    const row = database.updateTable('reservations').set(target).where('id', '=', this.#id)
    return database.changeAll([row.compile(), reserveWithin(database, vfolder, change, hasRoomInScope).compile()])
  }

  /** @returns what the row said before; undefined when it was removed: this process was taken for dead */
  async #changeRow(trx: Database, target: Amount): Promise<Amount | undefined> {
    const row = () => trx.selectFrom('reservations').select(units).where('id', '=', this.#id)
    const before = this.#held ?? (await row().forUpdate().executeTakeFirst())
    const update = trx.updateTable('reservations').set(target).where('id', '=', this.#id)
    const { numUpdatedRows } = await update.executeTakeFirstOrThrow()
    return numUpdatedRows > 0n ? before : undefined
  }

  async #insertRow(trx: Database, amount: Amount): Promise<void> {
    const { database, processes } = this.#app
    const id = this.#id
    const created_at = new Date(database.now()).toISOString()
    const row = { id, vfolder: this.#vfolder, process: processes.id, ...amount, created_at }
    await trx
      .insertInto('reservations')
      .values({ ...row, request_id: currentRequestId() ?? id })
      .execute()
  }

  async #remove(): Promise<void> {
    await transact(this.#app.database.unflushed, async (trx) => {
      const row = await trx.deleteFrom('reservations').where('id', '=', this.#id).returningAll().executeTakeFirst()
      if (row !== undefined && !isNothing(row)) await giveBack(trx, this.#vfolder, row)
    })
    this.#createdAt = undefined
    this.#held = nothing
  }

  /** What has changed on the storage counts, whatever becomes of the room. */
  async #countAlone(error: unknown, changes: Change[], by: Amount): Promise<void> {
    if (error instanceof Problem) this.#lost ??= { error }
    const counted = await this.#countLater(error, by).then(
      () => undefined,
      (failure: unknown) => ({ failure }),
    )
    for (const change of changes) {
      if (change.by === undefined) change.failed(error)
      else if (counted === undefined) change.done()
      else change.failed(counted.failure)
    }
  }

  async #countLater(error: unknown, by: Amount): Promise<void> {
    if (!(error instanceof Problem) && !isPassing(error)) throw error
    if (isNothing(by)) return
    const { database } = this.#app
    await database.writeLater(() => transact(database.unflushed, (trx) => count(trx, this.#vfolder, by)))
  }
}

interface Others {
  /** One for those who come when this one is superseded. */
  next(room: SharedRoom): SharedRoom
  forget(room: SharedRoom): void
}

/** The row was removed, so this process was taken for dead, or the vfolder deleted: what is new begins anew. */
class Superseded extends Error {}

/** Whether an error is about one of those who ask, and not about all of them. */
function isForOne(error: unknown): boolean {
  return error instanceof Problem || error instanceof Superseded
}

function sumOf(amounts: Amount[]): Amount {
  return amounts.reduce(sum, nothing)
}
