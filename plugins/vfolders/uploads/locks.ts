import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { uploadNotFound } from './rows.ts'

export interface Lock {
  /** Aborts when somebody else wants to go on with the upload. */
  wanted: AbortSignal
  release(): Promise<void>
}

/** How often the holder looks whether another process wants the upload, and the other one whether it is free. */
const pollMilliseconds = 250
/** A holder that is asked first has to flush its bytes; after so long the asking process gives up. */
const patienceMilliseconds = 30_000

/**
 * Lets one request at a time write to an upload, over all processes. The newest one wins: its client has given up on
 * the connection before, which the service may not have noticed yet. So the holder is asked to let go.
 */
export function createLocks({ database: db, processes, log }: FastifyInstance) {
  const held = new Map<string, { asked: AbortController; released: Promise<void> }>()

  /** Undefined when somebody else has it. */
  async function tryTake(id: string): Promise<Lock | undefined> {
    if (held.has(id)) return undefined
    const asked = new AbortController()
    const { promise: released, resolve } = Promise.withResolvers<void>()
    held.set(id, { asked, released })
    const forget = () => {
      held.delete(id)
      resolve()
    }
    try {
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
      if (numUpdatedRows === 0n) {
        forget()
        return undefined
      }
    } catch (error) {
      forget()
      throw error
    }

    let isTold = false
    const timer = setInterval(() => {
      isWanted(id).then(
        (wanted) => wanted && asked.abort(),
        (err) => {
          if (!isTold) log.warn({ err, upload_id: id }, 'it could not be seen whether the upload is wanted')
          isTold = true
        },
      )
    }, pollMilliseconds)
    const free = async () => {
      const held = db.updateTable('uploads').set({ process: null }).where('id', '=', id)
      await held.where('process', '=', processes.id).execute()
    }
    return {
      wanted: asked.signal,
      async release() {
        clearInterval(timer)
        const isFree = await free().then(
          () => true,
          () => false,
        )
        forget()
        // Unless another request of this process has it by then.
        if (!isFree) await db.writeLater(async () => (held.has(id) ? undefined : free()))
      },
    }
  }

  /** Asks another process. */
  async function ask(id: string): Promise<void> {
    const { numUpdatedRows } = await db
      .updateTable('uploads')
      .set({ wanted: 1 })
      .where('id', '=', id)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows === 0n) throw uploadNotFound()
  }

  async function isWanted(id: string): Promise<boolean> {
    const row = await db.selectFrom('uploads').select('wanted').where('id', '=', id).executeTakeFirst()
    return row?.wanted === 1
  }

  return {
    tryTake,

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
      for (;;) {
        const lock = await tryTake(id)
        if (lock !== undefined) return lock
        signal.throwIfAborted()
        const row = await db.selectFrom('uploads').select('id').where('id', '=', id).executeTakeFirst()
        if (row === undefined) return undefined
        await Promise.race([sleep(pollMilliseconds), held.get(id)?.released ?? sleep(pollMilliseconds)])
      }
    },

    /**
     * Takes an upload, and asks its holder to let go.
     * @throws {Problem} `upload_locked` when that does not help, or `upload_not_found`
     */
    async take(id: string): Promise<Lock> {
      for (const end = performance.now() + patienceMilliseconds; ; ) {
        const lock = await tryTake(id)
        if (lock !== undefined) return lock
        if (performance.now() > end) throw new Problem('upload_locked', 'Another request goes on with this upload.')
        const holder = held.get(id)
        if (holder === undefined) await ask(id)
        else holder.asked.abort()
        await Promise.race([sleep(pollMilliseconds), holder?.released ?? sleep(pollMilliseconds)])
      }
    },
  }
}
