import { type Kysely, sql } from 'kysely'
import type { DatabaseUnavailable } from './failures.ts'
import { isFullDisk } from './postgres-errors.ts'
import type { Tables } from './tables.ts'

/**
 * From the first statement that finds no room on the server's disk until there is some again. Reading goes on meanwhile,
 * and so does a change that fits into a page here and there: neither tells that it is over.
 */
export class FullDisk {
  #failure: DatabaseUnavailable | undefined

  get failure(): DatabaseUnavailable | undefined {
    return this.#failure
  }

  note(error: unknown): void {
    if (isFullDisk(error)) this.#failure = error
  }

  /** @throws {DatabaseUnavailable} while it lasts */
  async requireOver(db: Kysely<Tables>): Promise<void> {
    const failure = this.#failure
    if (failure === undefined) return
    try {
      await db.transaction().execute(async (trx) => {
        await sql`set local work_mem = '64kB'`.execute(trx)
        await sortOnDisk.execute(trx)
      })
    } catch (error) {
      if (isFullDisk(error)) throw error
    }
    if (this.#failure === failure) this.#failure = undefined
  }
}

/** Takes some 300 KiB of the disk, and leaves no trace. */
const sortOnDisk = sql`select count(distinct number) from generate_series(1, 20000) as number`
