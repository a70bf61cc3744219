import type { FastifyInstance } from 'fastify'
import { transact } from '../../storage/database/transact.ts'
import { type EventRow, laneOf } from './event.ts'
import type { Letter } from './letters.ts'
import * as letters from './letters.ts'
import { readAfter, readAt } from './outbox.ts'
import { type Lane, type LaneEnd, runLanes } from './round.ts'
import type { Target } from './target.ts'
import type { TargetRow } from './targets.ts'
import * as targets from './targets.ts'

/** How many events are looked at together, and how many letters of one lane. */
const windowEvents = 200
const laneLetters = 50

const firstDelayMilliseconds = 1000
const longestDelayMilliseconds = 60_000

/** What a round was about, and what became of it. */
interface Told {
  window: EventRow[]
  /** Those of the window that are letters. */
  known: Set<number>
  /** Those that wait behind a letter of their lane. */
  parked: EventRow[]
  /** All that there was to tell. */
  lanes: Lane[]
  ends: LaneEnd[]
}

interface Outcome {
  /** It has taken nothing of what it was told. */
  isAway: boolean
  hasTaken: boolean
  delay: number
  error: string | null
}

/** Another process tells the target by now. */
class Lost extends Error {}

/** Tells one target, as long as this process is the one that does. */
export class Delivery {
  readonly #app: Pick<FastifyInstance, 'database' | 'config' | 'log'>
  readonly #process: string
  readonly #target: Target
  /** What was taken although something before it was not: it is told once more after a crash. */
  readonly #taken = new Set<number>()

  constructor(app: FastifyInstance, target: Target) {
    this.#app = app
    this.#process = app.processes.id
    this.#target = target
  }

  /** Another process may have told it meanwhile. */
  forget(): void {
    this.#taken.clear()
  }

  /**
   * Tells what there is to tell just now.
   * @returns when there may be more to do, in milliseconds from now; undefined: when something new happens
   * @throws {Lost}
   */
  async round(row: TargetRow, signal: AbortSignal): Promise<number | undefined> {
    const { database: db } = this.#app
    const now = db.now()
    // A time that is too far away was written before a clock was set back.
    if (row.due_at > now && row.due_at <= now + 2 * longestDelayMilliseconds) return row.due_at - now
    const window = await readAfter(db, row.position, windowEvents)
    const late = await this.#findLate(now)
    const { name } = this.#target
    const known = await letters.findBetween(db, name, row.position, window.at(-1)?.position ?? row.position)
    const fresh = window.filter(({ position }) => !this.#taken.has(position) && !known.has(position))
    const held = await letters.findHeldLanes(db, name, [...new Set(fresh.map((event) => this.#laneOf(event)))])
    const lanes = this.#toLanes(fresh.filter((event) => !held.has(this.#laneOf(event))))
    const parked = fresh.filter((event) => held.has(this.#laneOf(event)))
    if (late.length === 0 && window.length === 0) {
      const due = await letters.nextDue(db, name, now)
      return due === undefined ? undefined : due - now
    }
    // What was not taken in its turn says little of a target that may be away.
    const tried = row.failures > 0 && lanes.length > 0 ? lanes : [...late, ...lanes]
    const ends = await runLanes(this.#target, tried, { signal, failures: row.failures })
    // What was broken off is told again, by this process or another one.
    const counted = signal.aborted ? ends.map((end) => ({ ...end, error: undefined })) : ends
    return this.#writeDown(row, { window, known, parked, lanes: [...late, ...lanes], ends: counted })
  }

  #laneOf(event: EventRow): string {
    return this.#target.order === 'all' ? '' : laneOf(event)
  }

  #toLanes(events: EventRow[]): Lane[] {
    const lanes = new Map<string, Lane>()
    for (const event of events) {
      const name = this.#laneOf(event)
      const lane = lanes.get(name) ?? { name, events: [], isLate: false }
      lane.events.push(event)
      lanes.set(name, lane)
    }
    return [...lanes.values()]
  }

  async #findLate(now: number): Promise<Lane[]> {
    const { database: db } = this.#app
    const { name: target } = this.#target
    const lanes: Lane[] = []
    for (const name of await letters.findDueLanes(db, target, now)) {
      const due = await letters.readLane(db, target, name, laneLetters)
      const events = await readAt(
        db,
        due.map(({ position }) => position),
      )
      if (events.length > 0)
        lanes.push({ name, events, isLate: true, attempts: new Map(due.map((one) => [one.position, one.attempts])) })
    }
    return lanes
  }

  async #writeDown(row: TargetRow, { window, known, parked, lanes, ends }: Told): Promise<number> {
    const { database: db, log } = this.#app
    const failed = ends.filter((end) => end.error !== undefined)
    const hasTaken = ends.some(({ taken }) => taken > 0)
    const isAway = !hasTaken && failed.some(({ lane }) => !lane.isLate)
    for (const { lane, taken } of ends) {
      for (const { position } of lane.events.slice(0, taken)) this.#taken.add(position)
    }
    const stale = (isLate: boolean) => this.#stale(lanes, isLate, failed)
    const fresh = isAway ? stale(false) : this.#newLetters(failed)
    fresh.push(...parked.map((event) => this.#letterOf(event)))
    const late = ends.filter(({ lane }) => lane.isLate)
    const gone = late.flatMap(({ lane, taken }) => lane.events.slice(0, taken).map(({ position }) => position))
    const refused = isAway ? stale(true) : late.flatMap((end) => this.#refusedAgain(end))
    const settled = new Set([...this.#taken, ...known, ...fresh.map(({ position }) => position)])
    const position = lastOf(row.position, window, settled)
    // Behind a window of which nothing is left there may be more that is to be given up.
    const isMore = window.length === windowEvents && position === window.at(-1)?.position
    const delay = isAway && !isMore ? delayOf(row.failures + 1) : 0
    await transact(db, async (trx) => {
      const change = { position, ...this.#stateOf(row, { isAway, hasTaken, delay, error: failed[0]?.error ?? null }) }
      // First, since it locks: whoever tells the target meanwhile has other letters.
      if (!(await targets.changeHeld(trx, row.name, this.#process, change))) throw new Lost()
      await letters.insert(trx, fresh)
      await letters.remove(trx, row.name, gone)
      for (const letter of refused) await letters.change(trx, letter)
    })
    for (const one of this.#taken) if (one <= position) this.#taken.delete(one)
    const fields = { target: row.name, failures: row.failures + 1, reason: failed[0]?.error }
    if (isAway && row.failures === 0) log.warn(fields, 'events are not taken; they are told again')
    if (hasTaken && row.failures > 0) log.info({ target: row.name, failures: row.failures }, 'events are taken again')
    return delay
  }

  #stateOf(row: TargetRow, { isAway, hasTaken, delay, error }: Outcome) {
    const now = this.#app.database.now()
    if (isAway) {
      return { failures: row.failures + 1, due_at: now + delay, failing_since: row.failing_since ?? now, error }
    }
    return hasTaken ? { failures: 0, due_at: 0, failing_since: null, error: null } : {}
  }

  #letterOf(event: EventRow): Letter {
    const [target, lane] = [this.#target.name, this.#laneOf(event)]
    return { target, lane, position: event.position, state: 'waiting', attempts: 0, due_at: 0, error: null }
  }

  /** What becomes a letter of a target that takes others: the event that it does not take, and what follows it. */
  #newLetters(failed: LaneEnd[]): Letter[] {
    return failed.flatMap(({ lane, taken, error }) => {
      if (lane.isLate) return []
      const rest = lane.events.slice(taken)
      return rest.map((event, index) => (index > 0 ? this.#letterOf(event) : this.#refused(event, 1, error)))
    })
  }

  /**
   * What is given up of a target that takes nothing: all that is too old to be tried again. Only one lane was tried, and
   * there may be more of them than there are rounds.
   */
  #stale(lanes: Lane[], isLate: boolean, failed: LaneEnd[]): Letter[] {
    const tried = new Set(failed.map(({ lane }) => lane.events[0]))
    return lanes.flatMap((lane) => {
      const events = lane.isLate === isLate ? lane.events.filter((event) => this.#isTooOld(event)) : []
      return events.map((event) => {
        const attempts = (lane.attempts?.get(event.position) ?? 0) + (tried.has(event) ? 1 : 0)
        return this.#dead(event, attempts, failed[0]?.error)
      })
    })
  }

  #refusedAgain({ lane, taken, error }: LaneEnd): Letter[] {
    const next = lane.events[taken]
    if (error === undefined || next === undefined) return []
    return [this.#refused(next, (lane.attempts?.get(next.position) ?? 0) + 1, error)]
  }

  #isTooOld({ time }: EventRow): boolean {
    const { config, database } = this.#app
    if (this.#target.insists) return false
    return time < database.now() - config.webhookRetrySeconds * 1000
  }

  #refused(event: EventRow, attempts: number, error: string | undefined): Letter {
    if (this.#isTooOld(event)) return this.#dead(event, attempts, error)
    const fields = { event_id: event.id, event: event.type, target: this.#target.name, attempts, reason: error }
    this.#app.log.warn(fields, 'an event is not taken; it is told again')
    const due_at = this.#app.database.now() + delayOf(attempts)
    return { ...this.#letterOf(event), attempts, due_at, error: error ?? null }
  }

  #dead(event: EventRow, attempts: number, error: string | undefined): Letter {
    const fields = { event_id: event.id, event: event.type, target: this.#target.name, attempts, reason: error }
    this.#app.log.error(fields, 'an event is given up; it can be sent again')
    return { ...this.#letterOf(event), state: 'dead', attempts, error: error ?? null }
  }
}

/** Doubled with each failure, and never the same for all who wait. */
function delayOf(failures: number): number {
  const delay = Math.min(longestDelayMilliseconds, firstDelayMilliseconds * 2 ** (failures - 1))
  return Math.round(delay * (0.75 + Math.random() / 2))
}

/** The last position up to which all is settled. */
function lastOf(position: number, window: EventRow[], settled: Set<number>): number {
  let last = position
  for (const event of window) {
    if (!settled.has(event.position)) break
    last = event.position
  }
  return last
}

/** What processes tell each other: that events have their positions, and that nobody tells a target, by its name. */
export const channels = { placed: 'events-placed', free: 'event-target-free' }

/** Tells a target whenever there is something to tell, until `signal` aborts. */
export async function keepTelling(app: FastifyInstance, target: Target, signal: AbortSignal): Promise<void> {
  const { database: db, processes, log } = app
  const delivery = new Delivery(app, target)
  let isHolder = false
  const change = db.expect(Object.values(channels), (payload) => isHolder || payload === target.name, signal)

  async function tell(): Promise<number | undefined> {
    const row = await targets.claim(db, target.name, processes.id, processes.alive())
    if (row === undefined && isHolder) delivery.forget()
    isHolder = row !== undefined
    // One that is out of touch may have been taken for dead, and another one tells the target.
    return row === undefined || !processes.isInTouch() ? undefined : delivery.round(row, signal)
  }

  while (!signal.aborted) {
    const pause = await tell().catch((error: unknown) => {
      delivery.forget()
      if (!(error instanceof Lost) && !signal.aborted)
        log.error({ err: error, target: target.name }, 'events could not be told')
      return undefined
    })
    if (pause !== 0) await change.next(pause ?? longestDelayMilliseconds)
  }
  change.end()
  await targets.release(db, target.name, processes.id)
  await transact(db, (trx) => db.notify(trx, channels.free, target.name))
}
