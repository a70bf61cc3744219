import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { sql } from 'kysely'
import { withRequestId } from '../../../lib/context.ts'
import { Problem } from '../../../lib/problems.ts'
import { transact } from '../../storage/database/transact.ts'
import { uploadNotFound } from './rows.ts'

export interface Lock {
  /** Aborts when somebody else wants to go on with the upload. */
  wanted: AbortSignal
  release(): Promise<void>
}

/** What processes tell each other of an upload, by its ID. */
const wantedChannel = 'upload-wanted'
const freedChannel = 'upload-freed'

/** How long at most whoever waits for an upload does so without another look. */
const lookMilliseconds = 1000
/** A holder that is asked first has to flush its bytes; after so long the asking process gives up. */
const patienceMilliseconds = 30_000

/**
 * Lets one request at a time write to an upload, over all processes. The newest one wins: its client has given up on
 * the connection before, which the service may not have noticed yet. So the holder is asked to let go.
 */
export function createLocks({ database: db, processes, log }: FastifyInstance) {
  const held = new Map<string, { asked: AbortController; released: Promise<void> }>()

  /** Undefined when somebody else has it. */
  function tryTake(id: string): Promise<Lock | undefined> {
    return hold(id, async () => {
      const { numUpdatedRows } = await db
        .updateTable('uploads')
        .set({ process: processes.id, wanted: 0 })
        .where('id', '=', id)
        .where((eb) =>
          eb.or([
            eb('process', 'is', null),
            eb('process', '=', processes.id),
            eb('process', 'not in', processes.alive()),
          ]),
        )
        .executeTakeFirstOrThrow()
      return numUpdatedRows > 0n
    })
  }

  /**
   * Undefined when somebody else has it.
   * @param take writes down that this process has it, and says whether it could be had
   */
  async function hold(id: string, take: () => Promise<boolean>): Promise<Lock | undefined> {
    if (held.has(id)) return undefined
    const asked = new AbortController()
    const { promise: released, resolve } = Promise.withResolvers<void>()
    held.set(id, { asked, released })
    const forget = () => {
      held.delete(id)
      resolve()
    }
    try {
      if (!(await take())) {
        forget()
        return undefined
      }
    } catch (error) {
      forget()
      throw error
    }

    return {
      wanted: asked.signal,
      async release() {
        const isFree = await free(id).then(
          () => true,
          () => false,
        )
        forget()
        // Unless another request of this process has it by then.
        if (!isFree) await db.writeLater(async () => (held.has(id) ? undefined : free(id)))
      },
    }
  }

  async function free(id: string): Promise<void> {
    const freed = await db
      .updateTable('uploads')
      .set({ process: null })
      .where('id', '=', id)
      .where('process', '=', processes.id)
      .returning(['wanted', 'kind'])
      .executeTakeFirst()
    // Not in one transaction with the change, which nearly nobody waits for: whoever does looks again in any case.
    if (freed === undefined || freed.wanted === 1 || freed.kind === 'final')
      await db.notify(db.unflushed, freedChannel, id)
  }

  /** Asks another process. @returns whether there is one to ask */
  function ask(id: string): Promise<boolean> {
    return transact(db, async (trx) => {
      const asked = trx.updateTable('uploads').set({ wanted: 1 }).where('id', '=', id).returning('process')
      const row = await asked.executeTakeFirst()
      if (row === undefined) throw uploadNotFound()
      await db.notify(trx, wantedChannel, id)
      return row.process !== null
    })
  }

  /** Asks the holders of this process for what others want, whose asking may not have been heard. */
  async function askHolders(): Promise<void> {
    if (held.size === 0) return
    const rows = await db
      .selectFrom('uploads')
      .select('id')
      .where('process', '=', processes.id)
      // As a literal it lets SQLite use the index that has only these.
      .where('wanted', '=', sql.lit(1))
      .execute()
    for (const { id } of rows) held.get(id)?.asked.abort()
  }

  let isLooking = false
  let isWantedAgain = false
  /** Never twice at once: while the database is away each look would hold a connection. */
  const look = withRequestId(async () => {
    isWantedAgain = isLooking
    if (isLooking) return
    isLooking = true
    do {
      isWantedAgain = false
      await askHolders().catch((err) => log.warn({ err }, 'it could not be seen whether uploads are wanted'))
    } while (isWantedAgain)
    isLooking = false
  }, randomUUID())

  // What is told may be over by now, and another request of this process have the upload: the row says what is so.
  db.onNotified(wantedChannel, (id) => {
    if (id === undefined || held.has(id)) look()
  })

  const expectFree = (id: string, signal?: AbortSignal) => db.expect([freedChannel], (freed) => freed === id, signal)

  /** Waits until the upload is free, or may be. */
  async function rest(id: string, free: ReturnType<typeof expectFree>): Promise<void> {
    const holder = held.get(id)
    if (holder === undefined) await free.next(lookMilliseconds)
    else await Promise.race([holder.released, free.next(lookMilliseconds)])
  }

  return {
    tryTake,

    hold,

    /** Whether a living process works on the upload. */
    async isHeld(id: string): Promise<boolean> {
      const held = db.selectFrom('uploads').select('id').where('id', '=', id).where('process', 'in', processes.alive())
      return (await held.executeTakeFirst()) !== undefined
    },

    /**
     * Takes an upload once its holder has ended, without asking it to let go. Undefined when the upload is gone by
     * then; rejects when `signal` aborts.
     */
    async await(id: string, signal: AbortSignal): Promise<Lock | undefined> {
      const free = expectFree(id, signal)
      try {
        for (;;) {
          const lock = await tryTake(id)
          if (lock !== undefined) return lock
          signal.throwIfAborted()
          const row = await db.selectFrom('uploads').select('id').where('id', '=', id).executeTakeFirst()
          if (row === undefined) return undefined
          await rest(id, free)
        }
      } finally {
        free.end()
      }
    },

    /**
     * Takes an upload, and asks its holder to let go.
     * @throws {Problem} `upload_locked` when that does not help, or `upload_not_found`
     */
    async take(id: string): Promise<Lock> {
      const free = expectFree(id)
      try {
        for (const end = performance.now() + patienceMilliseconds; ; ) {
          const lock = await tryTake(id)
          if (lock !== undefined) return lock
          if (performance.now() > end) throw new Problem('upload_locked', 'Another request goes on with this upload.')
          held.get(id)?.asked.abort()
          if (held.has(id) || (await ask(id))) await rest(id, free)
        }
      } finally {
        free.end()
      }
    },
  }
}
