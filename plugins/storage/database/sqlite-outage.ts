import { rm, writeFile } from 'node:fs/promises'
import { type Kysely, sql } from 'kysely'
import type { DatabaseUnavailable } from './failures.ts'
import { isDamaging } from './sqlite-errors.ts'
import type { Tables } from './tables.ts'

/** More than a transaction of the service needs, in bytes. */
const room = 256 * 1024

/**
 * From the first statement that fails until SQLite is known to work again. A full disk still has room for a small
 * change here and there, and a damaged page is met only by those who read it: a fault is not over because something
 * else went well.
 */
export class Outage {
  readonly #file: string
  #failure: DatabaseUnavailable | undefined

  constructor(file: string) {
    this.#file = file
  }

  get failure(): DatabaseUnavailable | undefined {
    return this.#failure
  }

  note(failure: DatabaseUnavailable): void {
    this.#failure = failure
  }

  /** Tries what may have failed. @throws {DatabaseUnavailable} while it lasts */
  async requireOver(db: Kysely<Tables>): Promise<void> {
    const failure = this.#failure
    if (failure === undefined) return
    if (!(await this.#hasRoom())) throw failure
    await touch.execute(db)
    // It holds up the event loop while it reads the whole file, but while that is in doubt only.
    if (isDamaging(failure) && !(await isSound(db))) throw failure
    if (this.#failure === failure) this.#failure = undefined
  }

  /** SQLite may write over what it has written before, and need no room for a while. */
  async #hasRoom(): Promise<boolean> {
    const probe = `${this.#file}-probe`
    try {
      await writeFile(probe, Buffer.alloc(room), { flush: true })
      return true
    } catch {
      return false
    } finally {
      await rm(probe, { force: true }).catch(() => {})
    }
  }
}

/** Writes and flushes the first page of the file. */
const touch = sql`pragma user_version = 0`

/** From the disk: what is in memory may be from before. */
async function isSound(db: Kysely<Tables>): Promise<boolean> {
  await sql`pragma shrink_memory`.execute(db)
  const { rows } = await sql<{ quick_check: string }>`pragma quick_check(1)`.execute(db)
  return rows[0]?.quick_check === 'ok'
}
