import { type RawBuilder, sql } from 'kysely'
import type { Database } from './tables.ts'

/** A clock of this machine and that of the database differ by little more after so long. */
const intervalMilliseconds = 30_000

export interface Clock {
  /** In milliseconds since 1970. */
  now(): number
}

/**
 * The clock that all processes have in common, for times that one writes and another compares. It is asked for now and
 * then, and follows the monotonic clock of this process in between.
 */
export function createClock(db: Database, clock: RawBuilder<number> | undefined) {
  let start: number | undefined
  let timer: NodeJS.Timeout | undefined

  async function ask(): Promise<void> {
    const before = performance.now()
    const { rows } = await sql<{ now: number }>`select ${clock} as now`.execute(db)
    const [row] = rows
    if (row !== undefined) start = row.now - (before + performance.now()) / 2
  }

  return {
    async start(): Promise<void> {
      if (clock === undefined) return
      await ask()
      // While the database is away, the last answer holds.
      timer = setInterval(() => ask().catch(() => {}), intervalMilliseconds).unref()
    },
    stop: () => clearInterval(timer),
    now: () => (start === undefined ? Date.now() : Math.round(start + performance.now())),
  }
}
