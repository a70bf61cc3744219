import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { CompiledQuery } from 'kysely'
import type { Database } from '../../storage/database/tables.ts'
import { afterCommit, transact } from '../../storage/database/transact.ts'
import { type NewEvent, toRow } from './event.ts'
import type { Target } from './target.ts'

declare module 'fastify' {
  interface FastifyInstance {
    events: Awaited<ReturnType<typeof createEvents>>
  }
}

async function createEvents(app: FastifyInstance) {
  const { database: db, config } = app
  const hasEnds = config.events
  const isOn = hasEnds && !config.eventsOfJobsOnly
  // Where nobody is told, nothing is written, and nothing of it loaded.
  const telling = hasEnds ? (await import('./telling.ts')).createTelling(app) : undefined

  const insertion = (on: Database, events: NewEvent[]) =>
    on.insertInto('events').values(events.map((event) => toRow(event, db.now())))

  return {
    /** Whether what happens is written down. Who would have to look for what to say asks first. */
    isOn,

    /** Whether the ends of jobs are, at least. */
    hasEnds,

    /** Writes down what has happened, in the transaction in which it does: it is told if that is committed. */
    async add(trx: Database, ...events: NewEvent[]): Promise<void> {
      const told = isOn ? events : events.filter(({ type }) => type === 'job.ended')
      if (telling === undefined || told.length === 0) return
      await insertion(trx, told).execute()
      afterCommit(trx, telling.wake)
    },

    /** Runs a change with its events as one transaction; where nobody is told, the change alone. */
    within: <T>(work: (on: Database) => Promise<T>): Promise<T> => (isOn ? transact(db, work) : work(db)),

    /** A statement for each, for a transaction in one trip; when it is committed, `added` is to be called. */
    toStatements: (events: NewEvent[]): CompiledQuery[] => events.map((event) => insertion(db, [event]).compile()),

    added(): void {
      telling?.wake()
    },

    /** Tells somebody of all events from now on; to be called before the service is ready. */
    tell(target: Target): void {
      telling?.targets.push(target)
    },

    /** How those who are told get on, and what the feed has; undefined where nothing is written down. */
    telling,
  }
}

/** What happens, written down with it and told to whoever wants to know, at least once. */
export default fp(
  async (app) => {
    const events = await createEvents(app)
    app.decorate('events', events)
    const { telling } = events
    if (telling === undefined) return
    app.addHook('onReady', () => telling.open())
    // Not in onClose: by then, what it uses may be closed.
    app.addHook('preClose', () => telling.close())
  },
  { name: 'events', dependencies: ['config', 'database', 'processes', 'scheduler'] },
)
