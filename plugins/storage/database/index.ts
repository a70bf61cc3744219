import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'
import { Kysely, Migrator, sql } from 'kysely'
import { ConfigError } from '../../config.ts'
import { DatabaseUnavailable } from './failures.ts'
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

export default fp(
  async (app) => {
    const file = join(app.config.dataDir, 'storage-proxy.sqlite')
    try {
      const database = createDatabase(file)
      app.addHook('onClose', () => database.destroy())
      await database.migrate()
      app.decorate('database', database)
    } catch (error) {
      if (!(error instanceof DatabaseUnavailable)) throw error
      throw new ConfigError(`DATA_DIR: the database ${file} cannot be used: ${error.message}`, { cause: error })
    }
  },
  { name: 'database', dependencies: ['config'] },
)
