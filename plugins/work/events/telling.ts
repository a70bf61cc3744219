import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { transact } from '../../storage/database/transact.ts'
import { channels, keepTelling } from './delivery.ts'
import { type Event, toEvent } from './event.ts'
import { createInspection } from './inspection.ts'
import * as letters from './letters.ts'
import { placed as eventsPlaced } from './notices.ts'
import * as outbox from './outbox.ts'
import type { Target } from './target.ts'
import * as rows from './targets.ts'
import { watchVolumes } from './volume-health.ts'

/** What happens within so long gets its positions in one transaction. */
const gatherMilliseconds = 50

/** How many events are forgotten in one transaction. */
const forgottenAtOnce = 1000

/** How many events of the feed are read by one query, and how much text there is in an answer, about. */
const readAtOnce = 50
const mostText = 1024 * 1024

/** How often those are looked for that are not kept any more. */
const longestForgetSeconds = 3600

/** Gives events their positions, tells them, and forgets them in the end. */
export function createTelling(app: FastifyInstance) {
  const { database: db, log, config } = app
  const closing = new AbortController()
  const targets: Target[] = []
  let running: Promise<unknown>[] = []
  let placing: Promise<void> | undefined
  let isWanted = false
  let endLooks = () => {}
  let watching: ReturnType<typeof watchVolumes> | undefined

  async function placeAll(): Promise<void> {
    if (!(await outbox.hasUnplaced(db))) return
    for (let more = true; more; ) {
      const placed = await transact(db, async (trx) => {
        const placed = await outbox.place(trx)
        if (placed !== undefined) await db.notify(trx, channels.placed, String(placed.last))
        return placed
      })
      if (placed !== undefined) eventsPlaced.give(placed.folders)
      more = placed?.more ?? false
    }
  }

  async function placeWhileWanted(): Promise<void> {
    while (isWanted && !closing.signal.aborted) {
      await sleep(gatherMilliseconds, undefined, { ref: false })
      isWanted = false
      // While the database is away there is nothing to place; later somebody looks again.
      await placeAll().catch((err) => log.warn({ err }, 'events could not be given their positions yet'))
    }
    placing = undefined
  }

  function wake(): void {
    isWanted = true
    placing ??= placeWhileWanted()
  }

  /** What nobody can want any more: too old, and told to all, or given up. */
  async function forgetOld(): Promise<void> {
    const time = db.now() - config.eventRetentionSeconds * 1000
    for (;;) {
      const { last, dead } = await transact(db, async (trx) => {
        const upTo = Math.min(...(await rows.list(trx)).map(({ position }) => position), Number.MAX_SAFE_INTEGER)
        const last = await outbox.forgetBefore(trx, { time, upTo, limit: forgottenAtOnce })
        return { last, dead: last === undefined ? 0 : await letters.forgetUpTo(trx, last) }
      })
      if (dead > 0) log.warn({ events: dead }, 'events that were given up are not kept any more')
      if (last === undefined) return
    }
  }

  async function forgetUnusedTargets(): Promise<void> {
    const names = targets.map(({ name }) => name)
    const gone = await transact(db, async (trx) => {
      const gone = await rows.forgetUnused(trx, names, app.processes.alive())
      await letters.forgetTargets(trx, gone)
      return gone
    })
    for (const target of gone) log.info({ target }, 'nobody tells this target any more; it is forgotten')
  }

  return {
    targets,
    wake,

    async open(): Promise<void> {
      for (const { name } of targets) await rows.introduce(db, name)
      endLooks = db.onNotified(channels.placed, (payload) => {
        if (payload === undefined) wake()
      })
      wake()
      watching = watchVolumes(app)
      running = targets.map((target) => keepTelling(app, target, closing.signal))
      app.schedule('forget-events', Math.min(config.eventRetentionSeconds, longestForgetSeconds), async () => {
        await forgetUnusedTargets()
        await forgetOld()
      })
    },

    async close(): Promise<void> {
      closing.abort()
      endLooks()
      await watching?.end()
      await Promise.allSettled([placing, ...running])
      for (const target of targets) target.close?.()
    },

    /** Events behind a position, in their order: so many at most, and fewer where they say much. */
    async read(after: number, limit: number): Promise<Event[]> {
      const events: Event[] = []
      let text = 0
      for (let position = after; events.length < limit && text < mostText; ) {
        const wanted = Math.min(limit - events.length, readAtOnce)
        const read = await outbox.readAfter(db, position, wanted)
        events.push(...read.map(toEvent))
        for (const { data } of read) text += data.length
        if (read.length < wanted) break
        position = read.at(-1)?.position ?? position
      }
      return events
    },

    /** Where the feed begins and ends: before the oldest event that is kept, and at the last. */
    positions: () => outbox.positions(db),

    /** How those who are told get on. */
    inspection: createInspection(db),

    /** Waits for further events; to be made before the look that shows whether there is anything to wait for. */
    expectMore: (signal: AbortSignal) => db.expect([channels.placed], () => true, signal),
  }
}
