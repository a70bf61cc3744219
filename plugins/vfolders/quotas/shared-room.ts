import { setImmediate as othersTurn, setTimeout as sleep } from 'node:timers/promises'
import { add, difference, isNothing, nothing, subtract, sum } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import { isPassing } from '../../storage/database/failures.ts'
import { transact } from '../../storage/database/transact.ts'
import type { AuditRow } from '../../work/audit/rows.ts'
import type { NewEvent } from '../../work/events/event.ts'
import { count, units } from '../rows.ts'
import { filesStored, type Stored } from '../told.ts'
import type { Reservation } from './reservation.ts'
import { covers, missing } from './room.ts'
import { Limited, RoomRow, type Services, Superseded } from './room-row.ts'

/** How long the row stays when nobody needs it: the next file mostly comes at once. */
const idleMilliseconds = 50
/** What is set aside for the files that come next, where no limit could refuse it to others. */
const sparePart = { bytes: 1024 * 1024, files: 64 }
/** So many are slowed down by nothing when they wait a little for each other, and share more. */
const manyOpen = 4
const gatherMilliseconds = 2
/** A process that stood still for less cannot have been taken for dead, and a deletion takes as long to be seen. */
const sureMilliseconds = 100

interface Want {
  amount: Amount
  /** Of an upload that begins. */
  isNew: boolean
  granted(): void
  refused(error: unknown): void
}

interface Told {
  stored?: Stored[]
  events?: NewEvent[]
  audited?: AuditRow[] | undefined
}

interface Change {
  /** Undefined: it only asks whether the room is still there. */
  by: Amount | undefined
  /** What it has no need of any more. */
  freed: Amount
  /** What is told of it. */
  stored: Stored[]
  events: NewEvent[]
  audited: AuditRow[]
  done(): void
  failed(error: unknown): void
}

/**
 * The room that small uploads of this process have set aside in one vfolder, in one row. All that ask in the same turn
 * of the event loop, or while others are written down, share one transaction: for a small file a transaction of its own
 * would be most of the work. Where there are no limits, room is set aside for those who come next; where there are any,
 * none that nobody has asked for, so they are exact.
 */
export class SharedRoom {
  readonly #app: Services
  readonly #vfolder: string
  readonly #others: Others
  readonly #row: RoomRow
  /** What is under way. */
  readonly #used = { ...nothing }
  /** What is set aside for those who come next. */
  #spare = { ...nothing }
  /** How often somebody has changed the limits. */
  #revision = 0
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
    this.#row = new RoomRow(app, vfolder)
  }

  /** @throws {Problem} `quota_exceeded` or `vfolder_not_found` */
  async take(wanted: Amount): Promise<Reservation> {
    this.#open++
    if (this.#takeSpare(wanted)) return this.#reservation({ ...wanted })
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
        if (!this.#takeSpare(more)) await this.#want(more, false)
        add(held, more)
      },
      confirm: async () => {
        if (!this.#isSure()) await this.#change(undefined)
      },
      settle: async (by, stored, audited) => {
        const used = { ...nothing }
        for (const unit of units) used[unit] = Math.max(0, Math.min(by[unit], held[unit]))
        subtract(held, used)
        await this.#change(by, used, { stored: stored === undefined ? [] : [stored], audited })
      },
      end: async (by = nothing, events = [], audited = []) => {
        try {
          if (!isNothing(held) || !isNothing(by) || events.length + audited.length > 0) {
            await this.#change(by, held, { events, audited })
          }
        } finally {
          this.#leave()
        }
      },
    }
  }

  /** Whether the room is still there, and the vfolder too. */
  #isSure(): boolean {
    return performance.now() - this.#checkedAt <= sureMilliseconds
  }

  #takeSpare(wanted: Amount): boolean {
    if (!covers(this.#spare, wanted) || !this.#isSure() || this.#lost !== undefined) return false
    subtract(this.#spare, wanted)
    add(this.#used, wanted)
    return true
  }

  /** Resolves once nothing is set aside that nobody has asked for: a limit would keep it from others. */
  async limitsChanged(): Promise<void> {
    this.#revision++
    this.#row.isLimited = true
    this.#spare = { ...nothing }
    if (this.#row.isThere) await this.#change(nothing)
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
    if (this.#row.isThere && this.#lost === undefined) {
      this.#spare = { ...nothing }
      this.#writing = this.#row.remove().finally(() => this.#written())
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

  #change(
    by: Amount | undefined,
    freed = nothing,
    { stored = [], events = [], audited = [] }: Told = {},
  ): Promise<void> {
    return new Promise((done, failed) => {
      this.#changes.push({ by, freed, stored, events, audited, done, failed })
      this.#wake()
    })
  }

  #wake(): void {
    if (this.#writing !== undefined || this.#wants.length + this.#changes.length === 0) return
    this.#writing = (this.#open > manyOpen ? sleep(gatherMilliseconds) : othersTurn())
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
    const spare = this.#row.isLimited ? nothing : sparePart
    const revision = this.#revision
    const events = this.#toEvents(changes)
    // Those who come meanwhile may use what is set aside before and after.
    this.#spare = least(this.#spare, spare)
    try {
      if (this.#lost !== undefined) throw wants.some(({ isNew }) => isNew) ? new Superseded() : this.#lost.error
      const kept = difference(this.#used, freed)
      const begun = performance.now()
      const audited = changes.flatMap((change) => change.audited)
      await this.#row.put({ kept, wanted, spare, by, events, audited, mayReturn: !wants.some(({ isNew }) => isNew) })
      this.#checkedAt = begun
    } catch (error) {
      if (!isNothing(spare) && (error instanceof Limited || error instanceof Problem)) {
        this.#row.isLimited = true
        return this.#write(wants, changes)
      }
      if (isForOne(error) && wants.length > 0 && wants.length + changes.length > 1) {
        // When not all get room, each is told whether it does, in the order of asking.
        if (changes.length > 0) await this.#write([], changes)
        for (const want of wants) await this.#write([want], [])
        return
      }
      for (const { refused } of wants) refused(error)
      subtract(this.#used, freed)
      if (changes.length > 0) await this.#countAlone(error, changes, by, events)
      return
    }
    subtract(this.#used, freed)
    add(this.#used, wanted)
    if (revision !== this.#revision) this.#row.isLimited = true
    this.#spare = this.#row.isLimited ? { ...nothing } : difference(this.#row.held ?? this.#used, this.#used)
    for (const { granted } of wants) granted()
    for (const { done } of changes) done()
  }

  /** What many have stored at once is one event. */
  #toEvents(changes: Change[]): NewEvent[] {
    if (!this.#app.events.isOn) return []
    const stored = changes.flatMap((change) => change.stored)
    return [...filesStored(this.#vfolder, stored), ...changes.flatMap(({ events }) => events)]
  }

  /** What has changed on the storage counts, whatever becomes of the room. */
  async #countAlone(error: unknown, changes: Change[], by: Amount, events: NewEvent[]): Promise<void> {
    if (error instanceof Problem) this.#lost ??= { error }
    this.#app.audit.keep(changes.flatMap(({ audited }) => audited))
    const counted = await this.#countLater(error, by, events).then(
      () => undefined,
      (failure: unknown) => ({ failure }),
    )
    for (const change of changes) {
      if (change.by === undefined) change.failed(error)
      else if (counted === undefined) change.done()
      else change.failed(counted.failure)
    }
  }

  async #countLater(error: unknown, by: Amount, events: NewEvent[]): Promise<void> {
    if (!(error instanceof Problem) && !isPassing(error)) throw error
    if (isNothing(by) && events.length === 0) return
    const { database, events: outbox } = this.#app
    await database.writeLater(() =>
      transact(events.length > 0 ? database : database.unflushed, async (trx) => {
        if (!isNothing(by)) await count(trx, this.#vfolder, by)
        await outbox.add(trx, ...events)
      }),
    )
  }
}

interface Others {
  /** One for those who come when this one is superseded. */
  next(room: SharedRoom): SharedRoom
  forget(room: SharedRoom): void
}

function least(one: Amount, other: Amount): Amount {
  return { bytes: Math.min(one.bytes, other.bytes), files: Math.min(one.files, other.files) }
}

/** Whether an error is about one of those who ask, and not about all of them. */
function isForOne(error: unknown): boolean {
  return error instanceof Problem || error instanceof Superseded
}

function sumOf(amounts: Amount[]): Amount {
  return amounts.reduce(sum, nothing)
}
