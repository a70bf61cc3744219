import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import fp from 'fastify-plugin'
import { Kysely, type LogEvent, type RawBuilder, sql } from 'kysely'
import { newRequestId, withRequestId } from '../../../lib/context.ts'
import { type Config, inFile } from '../../config.ts'
import { createClock } from './clock.ts'
import type { ColumnType, Engine } from './engine.ts'
import { createLater } from './later.ts'
import { measured, tellStatement } from './measured.ts'
import { createNotifications } from './notifications.ts'
import { openSqlite } from './sqlite.ts'
import type { Tables } from './tables.ts'

declare module 'fastify' {
  interface FastifyInstance {
    database: ReturnType<typeof createDatabase>
  }
}

/** Shorter than those who ask for the health wait, which is often one second. */
const healthMilliseconds = 500

async function openEngine(config: Config, log: FastifyBaseLogger): Promise<Engine> {
  const { dataDir, databaseUrl } = config
  if (databaseUrl === undefined) return openSqlite(join(dataDir, 'storage-proxy.sqlite'))
  // Loaded only where it is used: it would take a tenth of the start.
  const [{ openPostgres }, { parseDatabaseUrl }] = await Promise.all([
    import('./postgres.ts'),
    import('./postgres-url.ts'),
  ])
  return openPostgres({
    variable: databaseUrl.name,
    server: parseDatabaseUrl(databaseUrl),
    poolSize: config.databasePoolSize,
    connectMilliseconds: config.databaseConnectTimeoutSeconds * 1000,
    statementMilliseconds: config.databaseStatementTimeoutSeconds * 1000,
    // In the context of whoever was the first to need that connection, which may be over by now.
    onLost: (err) => withRequestId(() => log.warn({ err }, 'a connection to the database was lost'), newRequestId())(),
    onDeaf: (err) => log.warn({ err }, 'the database tells of no changes; they are looked for every second'),
    onHearing: () => log.info('the database tells of changes again'),
  })
}

/**
 * The service's own state: vfolders, not files. Queries are written with Kysely, and transactions with `transact`; only
 * the engines know which database it is.
 */
function createDatabase(engine: Engine, log: FastifyBaseLogger, metrics: boolean) {
  const logging = loggingOf(log, metrics)
  const db = new Kysely<Tables>({ dialect: engine.dialect, ...logging })
  const clock = createClock(db, engine.clock)
  const later = createLater(log)
  const notifications = createNotifications(engine, db)
  let tables: string[] = []
  let checking: Promise<void> | undefined

  async function check(): Promise<void> {
    // With SQLite a transaction can begin only when nobody else writes.
    await db.transaction().execute(async (trx) => {
      for (const table of tables) await sql`select 1 from ${sql.table(table)} limit 1`.execute(trx)
    })
    await engine.check(db)
  }

  return Object.assign(db, {
    /** For what nobody was promised: a commit waits for no disk, and a power cut may take it back. */
    unflushed: new Kysely<Tables>({ dialect: engine.unflushed, ...logging }),

    /** Runs changes in one trip, where the database can; see `Engine`. */
    changeAll: engine.changeAll,

    /** Adds many rows by one statement. */
    insertAll: (into: RawBuilder<unknown>, columns: ColumnType[]) => engine.insertAll(db, into, columns),

    /** What it failed with, as a disk that is full, as long as that is not known to be over. */
    failure: engine.failure,

    /** Whether processes on several machines, each with a DATA_DIR of its own, may use it. */
    isShared: engine.isShared,

    /** A number for a new job that is larger than those of all earlier jobs. */
    nextSequence: engine.nextSequence,

    /** The time that all processes have in common, in milliseconds since 1970. */
    now: clock.now,

    /** Tells all processes of a change, when its transaction is committed. */
    notify: notifications.notify,

    /** Hears of changes, by whichever process. */
    onNotified: notifications.onNotified,

    /** Waits for changes. */
    expect: notifications.expect,

    /** Writes down what has happened, when the database is back at the latest. */
    insist: later.insist,

    /** The same, and waits for it only where the database is there. */
    writeLater: later.writeLater,

    async open(): Promise<void> {
      await engine.migrate(db)
      tables = await engine.listTables(db)
      await clock.start()
      notifications.start()
    },

    /** Tries what has failed. @throws {DatabaseUnavailable} when it still does */
    requireOver: () => engine.check(db),

    /**
     * Rejects when the database does not answer, cannot be written to, has lost a table, is not the one any more that it
     * was, or has failed before and still would.
     */
    async health(): Promise<void> {
      // While one check waits, further ones must not take up further connections.
      checking ??= check().finally(() => {
        checking = undefined
      })
      await Promise.race([checking, rejectLate()])
    },

    async close(): Promise<void> {
      clock.stop()
      later.stop()
      await notifications.stop()
      await db.destroy()
    },
  })
}

/** None where nobody is told, since it costs a little for each statement. */
function loggingOf(log: FastifyBaseLogger, metrics: boolean): { log?: (event: LogEvent) => void } {
  if (log.level !== 'trace') return metrics ? { log: tellStatement } : {}
  return {
    log(event) {
      log.trace({ sql: event.query.sql }, 'statement')
      if (metrics) tellStatement(event)
    },
  }
}

async function rejectLate(): Promise<never> {
  await sleep(healthMilliseconds, undefined, { ref: false })
  throw new Error('the database does not answer in time, or is held by somebody else')
}

export default fp(
  async (app) => {
    const file = app.config.databaseUrl?.file
    const { metrics } = app.config
    const engine = await inFile(file, () => openEngine(app.config, app.log))
    const database = createDatabase(metrics ? measured(engine) : engine, app.log, metrics)
    app.addHook('onClose', () => database.close())
    await inFile(file, () => database.open())
    app.decorate('database', database)
  },
  { name: 'database', dependencies: ['config'] },
)
