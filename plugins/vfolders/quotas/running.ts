import type { FastifyInstance } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { giveBack } from '../rows.ts'

/** What processes tell each other of a reservation, by its ID. */
const endedChannel = 'reservation-ended'

/** Room that work under way has set aside. */
export interface RunningWork {
  id: string
  /** A job is cancelled, and not ended by its room. */
  kind: 'request' | 'job'
  bytes: number
  files: number
  request_id: string
  created_at: string
}

export type Running = ReturnType<typeof createRunning>

/** What work under way has set aside, for the manager, who may end it. */
export function createRunning({ database: db, jobs }: Pick<FastifyInstance, 'database' | 'jobs'>) {
  const held = new Map<string, AbortController>()

  db.onNotified(endedChannel, (id) => {
    if (id !== undefined)
      held.get(id)?.abort(new Problem('work_ended', 'The manager has ended it, and has its room back.'))
  })

  const select = (vfolder: string) =>
    db
      .selectFrom('reservations')
      .select(['id', 'bytes', 'files', 'request_id', 'created_at'])
      .select((eb) => {
        const kind = eb.case().when('id', 'in', jobs.selectUnended()).then('job').else('request').end()
        return kind.$castTo<RunningWork['kind']>().as('kind')
      })
      .where('vfolder', '=', vfolder)
      // Work that has nothing set aside only notes that the usage is about to change.
      .where((eb) => eb.or([eb('bytes', '>', 0), eb('files', '>', 0)]))

  return {
    /** Lets work of this process be ended; `forget` is to be called when it is over. */
    follow(id: string): { ended: AbortSignal; forget(): void } {
      const controller = new AbortController()
      held.set(id, controller)
      return { ended: controller.signal, forget: () => held.delete(id) }
    },

    /** By ID, after the given one. */
    list(vfolder: string, { limit, after = '' }: { limit: number; after?: string }): Promise<RunningWork[]> {
      return select(vfolder).where('id', '>', after).orderBy('id').limit(limit).execute()
    },

    /**
     * Gives the room back, and ends the work, on whichever process that is. @returns whether there was such work
     * @throws {Problem} `job_not_ended`
     */
    async end(vfolder: string, id: string): Promise<boolean> {
      const work = await select(vfolder).where('id', '=', id).executeTakeFirst()
      if (work === undefined) return false
      if (work.kind === 'job') throw new Problem('job_not_ended', `A job holds it: cancel it by DELETE /jobs/${id}.`)
      await transact(db, async (trx) => {
        await endReservation(trx, { id, vfolder })
        await db.notify(trx, endedChannel, id)
      })
      return true
    },
  }
}

/** Gives back what is left of a reservation. */
export async function endReservation(trx: Database, { id, vfolder }: { id: string; vfolder: string }): Promise<void> {
  const rest = await trx.deleteFrom('reservations').where('id', '=', id).returningAll().executeTakeFirst()
  if (rest !== undefined) await giveBack(trx, vfolder, rest)
}
