import { statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'
import { Kysely, Migrator, sql } from 'kysely'
import { ConfigError, reasonOf } from '../../config.ts'
import { migrations } from './migrations.ts'
import { openSqlite, watchFile } from './sqlite.ts'
import type { Tables } from './tables.ts'

declare module 'fastify' {
  interface FastifyInstance {
    database: ReturnType<typeof createDatabase>
  }
}

/** Shorter than those who ask for the health wait, which is often one second. */
const healthMilliseconds = 500

/**
 * The service's own state: vfolders, not files. Queries are written with Kysely; only `sqlite.ts` speaks to the driver.
 */
function createDatabase(file: string) {
  const { dialect, outage } = openSqlite(file)
  const db = new Kysely<Tables>({ dialect })
  const isStillThere = watchFile(file)
  let tables: string[] = []
  return Object.assign(db, {
    async migrate(): Promise<void> {
      const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } })
      const { error } = await migrator.migrateToLatest()
      if (error !== undefined) throw error
      tables = (await db.introspection.getTables()).map(({ name }) => name)
    },
    /**
     * Rejects when the database does not answer, cannot be written to, has lost a table, is not the file any more that
     * has its name, or has failed before and still would.
     */
    async health(): Promise<void> {
      isStillThere()
      // A transaction can begin only when nobody else writes.
      const check = db.transaction().execute(async (trx) => {
        for (const table of tables) await sql`select 1 from ${sql.table(table)} limit 1`.execute(trx)
      })
      await Promise.race([check.then(() => outage.requireOver(db)), rejectLate()])
    },
  })
}

async function rejectLate(): Promise<never> {
  await sleep(healthMilliseconds, undefined, { ref: false })
  throw new Error('the database is held by somebody else')
}

/** @throws {ConfigError} */
async function openDatabase(file: string) {
  try {
    const database = createDatabase(file)
    await database.migrate()
    return database
  } catch (cause) {
    const reason = statSync(file, { throwIfNoEntry: false })?.isDirectory() ? 'it is a directory' : whyNot(cause)
    throw new ConfigError(`DATA_DIR has ${file}, which cannot be used as the database: ${reason}`, { cause, file })
  }
}

/** Kysely calls a migration that is not one of ours missing. */
function whyNot(error: unknown): string {
  const reason = reasonOf(error)
  const [, unknown] = /previously executed migration (\S+) is missing/.exec(reason) ?? []
  return unknown === undefined ? reason : `a newer version of the service has used it (migration ${unknown})`
}

export default fp(
  async (app) => {
    app.decorate('database', await openDatabase(join(app.config.dataDir, 'storage-proxy.sqlite')))
    app.addHook('onClose', () => app.database.destroy())
  },
  { name: 'database', dependencies: ['config'] },
)
