import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Expression } from 'kysely'
import { newRequestId, withRequestId } from '../../lib/context.ts'
import { transact } from '../storage/database/transact.ts'

declare module 'fastify' {
  interface FastifyInstance {
    processes: Awaited<ReturnType<typeof createProcess>>
  }
}

/** Tells that a process has ended, or counts as dead. */
const goneChannel = 'process-gone'

/** How often a process shows itself before it would count as dead. */
const beatsPerLease = 5

/**
 * Which processes of the service are alive: those that have a row. A process counts up its `beat`; the others watch,
 * and delete the row of one whose beat stood still for a whole lease by their own monotonic clock, so that setting a
 * wall clock cannot make a dead process live or a living one dead.
 */
async function createProcess(app: FastifyInstance) {
  const { database: db, config } = app
  const id = randomUUID()
  const leaseMilliseconds = config.leaseSeconds * 1000
  const beatMilliseconds = leaseMilliseconds / beatsPerLease
  const seen = new Map<string, { beat: number; since: number }>()
  let shownAt = performance.now()
  let watchedAt = performance.now()

  async function show(): Promise<void> {
    const began = performance.now()
    const { numUpdatedRows } = await db
      .updateTable('processes')
      .set((eb) => ({ beat: eb('beat', '+', 1) }))
      .where('id', '=', id)
      .executeTakeFirstOrThrow()
    if (numUpdatedRows === 0n) {
      const volumes = JSON.stringify(app.volumes.all().map(({ name }) => name))
      const row = { id, beat: 0, volumes, signing_keys: JSON.stringify(app.signedUrls.keyIds) }
      await db.insertInto('processes').values(row).execute()
    }
    shownAt = began
  }

  async function watch(): Promise<void> {
    const others = await db.selectFrom('processes').select(['id', 'beat']).where('id', '!=', id).execute()
    const now = performance.now()
    // Time in which no beat could be seen does not count, such as while the database was away.
    const unseen = Math.max(0, now - watchedAt - 2 * beatMilliseconds)
    for (const other of seen.values()) other.since += unseen
    watchedAt = now
    for (const { id: other, beat } of others) {
      const before = seen.get(other)
      if (before?.beat !== beat) {
        seen.set(other, { beat, since: now })
      } else if (now - before.since > leaseMilliseconds) {
        await remove(other, beat)
        app.log.warn({ process: other }, 'a process counts as dead; its work is taken over')
      }
    }
    const alive = new Set(others.map((other) => other.id))
    for (const other of seen.keys()) if (!alive.has(other)) seen.delete(other)
  }

  /** Removes a process, and tells those who wait for what it holds. */
  async function remove(gone: string, beat?: number): Promise<void> {
    await transact(db, async (trx) => {
      const removal = trx.deleteFrom('processes').where('id', '=', gone)
      await (beat === undefined ? removal : removal.where('beat', '=', beat)).execute()
      await db.notify(trx, goneChannel, gone)
    })
  }

  async function readBeats(ids: string[]) {
    return db.selectFrom('processes').select(['id', 'beat']).where('id', 'in', ids).execute()
  }

  const beat = withRequestId(async () => {
    try {
      await show()
      await watch()
    } catch (error) {
      app.log.error({ err: error }, 'the process could not show that it is alive')
    }
  }, newRequestId())

  await show()
  app.log.info({ process: id }, 'the process has shown itself to the others')
  let beating: Promise<void> | undefined
  const timer = setInterval(() => {
    beating ??= beat().finally(() => {
      beating = undefined
    })
  }, beatMilliseconds)

  return {
    /** The others that are alive, and what they were started with. */
    async others(): Promise<{ id: string; signingKeys: string[]; volumes: string[] }[]> {
      const others = await db.selectFrom('processes').selectAll().where('id', '!=', id).execute()
      return others.map((other) => ({
        id: other.id,
        signingKeys: JSON.parse(other.signing_keys),
        volumes: JSON.parse(other.volumes),
      }))
    },
    /** Calls `listener` when another process is not alive any more. @returns what ends it */
    onGone: (listener: () => void) =>
      db.onNotified(goneChannel, (process) => {
        if (process !== undefined) listener()
      }),
    /** Of this process, for what it holds: a job, a periodic task, a reservation. */
    id,
    /** As the log names it in each line; a later process may have the same. */
    name: `${hostname()}/${process.pid}`,
    /** The IDs of those that are alive, as a subquery. */
    alive: (): Expression<string> => db.selectFrom('processes').select('processes.id').$asScalar(),
    /** Whether no other process can count this one as dead: it has shown itself within the time of a lease. */
    isInTouch: () => performance.now() - shownAt < leaseMilliseconds,
    /** Waits until each of these processes has shown that it is alive, or is known to be dead. */
    async settled(ids: string[], signal: AbortSignal): Promise<void> {
      const beats = new Map((await readBeats(ids)).map((row) => [row.id, row.beat]))
      while ((await readBeats(ids)).some((row) => row.beat === beats.get(row.id))) {
        await sleep(beatMilliseconds, undefined, { signal })
      }
    },
    async leave(): Promise<void> {
      clearInterval(timer)
      await beating
      // Otherwise it counts as dead a little later.
      await remove(id).catch((err) => app.log.warn({ err }, 'the process could not say that it ends'))
    },
  }
}

/** Shows the others that this process is alive, and finds out which of them are not. */
export default fp(
  async (app) => {
    const processes = await createProcess(app)
    app.decorate('processes', processes)
    app.addHook('onClose', () => processes.leave())
  },
  { name: 'processes', dependencies: ['config', 'database', 'volumes', 'signed-urls'] },
)
