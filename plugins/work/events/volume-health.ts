import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { newRequestId, withRequestId } from '../../../lib/context.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { circuitTurned } from '../../storage/notices.ts'
import type { Health, Volume } from '../../storage/volumes.ts'
import { lock } from './outbox.ts'

const lookMilliseconds = 5000

/** A storage that did not answer once may only have been slow. */
const secondLookMilliseconds = 1000

/**
 * Tells when a volume is not well, and when it is again. Each process looks at its own volumes, since a mount may be away on
 * one machine only: a volume is unwell as long as it is so for any process that is alive.
 */
export function watchVolumes(app: FastifyInstance) {
  const { database: db, volumes, processes, log } = app
  const closing = new AbortController()
  const looking = new Map<string, Promise<unknown>>()

  const findUnwell = async (on: Database, volume: string) => {
    const rows = await on.selectFrom('unwell_volumes').select('process').where('volume', '=', volume).execute()
    return rows.map(({ process }) => process)
  }

  async function healthOf(volume: Volume): Promise<Health> {
    const health = await volumes.health(volume)
    if (health.healthy) return health
    await sleep(secondLookMilliseconds, undefined, { ref: false, signal: closing.signal })
    return volumes.health(volume)
  }

  async function look(volume: Volume): Promise<void> {
    const health = await healthOf(volume)
    const unwell = await findUnwell(db, volume.name)
    if (health.healthy) {
      if (unwell.length > 0) await tellWell(volume.name)
    } else if (!unwell.includes(processes.id)) {
      await tellUnwell(volume.name, health.reason)
    }
  }

  async function tellUnwell(volume: string, reason: string): Promise<void> {
    await transact(db, async (trx) => {
      await lock(trx)
      const isKnown = (await findUnwell(trx, volume)).length > 0
      await trx.insertInto('unwell_volumes').values({ volume, process: processes.id }).execute()
      if (!isKnown) await app.events.add(trx, { type: 'volume.unwell', volume, data: { reason } })
    })
  }

  async function tellWell(volume: string): Promise<void> {
    await transact(db, async (trx) => {
      await lock(trx)
      const { numDeletedRows } = await trx
        .deleteFrom('unwell_volumes')
        .where('volume', '=', volume)
        .where((eb) => eb.or([eb('process', '=', processes.id), eb('process', 'not in', processes.alive())]))
        .executeTakeFirstOrThrow()
      if (numDeletedRows === 0n || (await findUnwell(trx, volume)).length > 0) return
      await app.events.add(trx, { type: 'volume.well', volume, data: {} })
    })
  }

  function wake(volume: Volume): void {
    if (looking.has(volume.name) || closing.signal.aborted) return
    const work = withRequestId(
      look,
      newRequestId(),
    )(volume)
      .catch((err) => {
        if (closing.signal.aborted) return
        log.warn({ err, volume: volume.name }, 'whether a volume is well could not be told')
      })
      .finally(() => looking.delete(volume.name))
    looking.set(volume.name, work)
  }

  const wakeAll = () => volumes.all().forEach(wake)
  const timer = setInterval(wakeAll, lookMilliseconds).unref()
  const endTurns = circuitTurned.take((name) => wake(volumes.get(name)))
  wakeAll()

  return {
    async end(): Promise<void> {
      clearInterval(timer)
      endTurns()
      closing.abort()
      await Promise.all(looking.values())
    },
  }
}
