import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { channels } from './delivery.ts'
import { type Event, toEvent } from './event.ts'
import * as letters from './letters.ts'
import { countUnplaced, oldestAfter, positions, readAt } from './outbox.ts'
import * as targets from './targets.ts'

/** How somebody who is told of events gets on. */
export interface TargetState {
  name: string
  /** How many events it has not taken yet, except those that were given up. */
  undelivered: number
  /** When the oldest of them happened. */
  oldestUndelivered: number | undefined
  /** How many of them were told, and not taken while others were, or wait behind such a one. */
  waiting: number
  dead: number
  failingSince: number | undefined
  error: string | undefined
}

export interface DeadLetter {
  target: string
  attempts: number
  error: string | undefined
  event: Event
}

type Notifying = Database & { notify(trx: Database, channel: string, payload: string): Promise<void> }

/** Looks at those who are told of events, and lets dead letters be sent again. */
export function createInspection(db: Notifying) {
  async function toDeadLetters(found: letters.Letter[]): Promise<DeadLetter[]> {
    const rows = await readAt(db, [...new Set(found.map(({ position }) => position))])
    const events = new Map(rows.map((row) => [row.position, toEvent(row)]))
    return found.flatMap(({ target, position, attempts, error }) => {
      const event = events.get(position)
      return event === undefined ? [] : [{ target, attempts, error: error ?? undefined, event }]
    })
  }

  return {
    async states(): Promise<TargetState[]> {
      const counts = await letters.countAll(db)
      const unplaced = await countUnplaced(db)
      const { last } = await positions(db)
      const states: TargetState[] = []
      for (const row of await targets.list(db)) {
        const of = (state: string) => counts.find((one) => one.target === row.name && one.state === state)
        const waiting = of('waiting')
        const untold = last + unplaced - row.position - (await letters.countAfter(db, row.name, row.position))
        const oldestLetter = waiting === undefined ? [] : await readAt(db, [waiting.first])
        states.push({
          name: row.name,
          undelivered: untold + (waiting?.letters ?? 0),
          oldestUndelivered: oldestLetter[0]?.time ?? (await oldestAfter(db, row.position)),
          waiting: waiting?.letters ?? 0,
          dead: of('dead')?.letters ?? 0,
          failingSince: row.failing_since ?? undefined,
          error: row.error ?? undefined,
        })
      }
      return states
    },

    /** In the order of their events. */
    async listDead(options: letters.DeadOptions): Promise<DeadLetter[]> {
      return toDeadLetters(await letters.listDead(db, options))
    },

    /** Lets dead letters be sent again at once: all of a target, or those of some events. @returns how many there were */
    async sendAgain(target: string, cursors?: string[]): Promise<number | undefined> {
      return transact(db, async (trx) => {
        if ((await targets.find(trx, target)) === undefined) return undefined
        const revived = await letters.revive(trx, target, cursors?.map(Number))
        await targets.hasten(trx, target)
        await db.notify(trx, channels.placed, '')
        return revived
      })
    },
  }
}
