import { setTimeout as sleep } from 'node:timers/promises'
import type { CompiledQuery } from 'kysely'
import { DatabaseConflict } from './failures.ts'
import { setLast } from './last-statement.ts'
import type { Database } from './tables.ts'

const attempts = 10
/** Before the second attempt at most; doubled before each further one, up to the longest. */
const firstPauseMilliseconds = 5
const longestPauseMilliseconds = 200

/** What is to follow the transactions under way. */
const following = new WeakMap<Database, (() => void)[]>()

/** What goes with the commit of the transactions under way. */
const closing = new WeakMap<Database, () => CompiledQuery>()

/**
 * Has one statement go to the database together with the commit, so that it costs no trip of its own. It is asked for
 * when all the rest is done. @returns false where `on` is no transaction, or has such a statement already
 */
export function withCommit(on: Database, statement: () => CompiledQuery): boolean {
  if (!following.has(on) || closing.has(on)) return false
  closing.set(on, statement)
  return true
}

/** Runs `work` once others can see what the transaction has changed; at once where `on` is no transaction. */
export function afterCommit(on: Database, work: () => void): void {
  const others = following.get(on)
  if (others === undefined) work()
  else others.push(work)
}

/**
 * Runs `work` as one transaction, at READ COMMITTED where the database has a choice: each statement sees what others have
 * committed until then. So what is read to decide on is locked (`forUpdate`), or the change names what it found. A
 * transaction that had to give way to others is run again, so `work` must change nothing but the database.
 * @throws {DatabaseBusy} when it had to give way each time
 */
export async function transact<T>(db: Database, work: (trx: Database) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const afterwards: (() => void)[] = []
    try {
      const result = await db.transaction().execute(async (trx) => {
        following.set(trx, afterwards)
        const result = await work(trx)
        const last = closing.get(trx)
        if (last !== undefined) await setLast(trx, last())
        return result
      })
      for (const follow of afterwards) follow()
      return result
    } catch (error) {
      if (!(error instanceof DatabaseConflict) || attempt === attempts) throw error
      const pause = Math.min(longestPauseMilliseconds, firstPauseMilliseconds * 2 ** (attempt - 1))
      await sleep(pause * (0.5 + Math.random()))
    }
  }
}
