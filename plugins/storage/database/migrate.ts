import { type Kysely, Migrator } from 'kysely'
import { ConfigError } from '../../config.ts'
import { migrations } from './migrations.ts'
import type { Tables } from './tables.ts'

/** Where Kysely remembers the migrations that were applied. */
type Applied = {
  kysely_migration: { name: string }
}

/**
 * Applies the migrations that are missing. Of processes that start at once one does it, and the others wait: PostgreSQL
 * has an advisory lock for that, and SQLite one writer.
 * @param name the database, or the variable that names it, for messages
 * @throws {ConfigError} when a newer version of the service has used the database
 */
export async function migrate(db: Kysely<Tables>, name: string): Promise<void> {
  await refuseNewer(db, name)
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } })
  const { error } = await migrator.migrateToLatest()
  if (error === undefined) return
  // It may have happened just now.
  await refuseNewer(db, name)
  throw error
}

async function refuseNewer(db: Kysely<Tables>, name: string): Promise<void> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true })
  if (!tables.some((table) => table.name === 'kysely_migration')) return
  const applied = await db.withTables<Applied>().selectFrom('kysely_migration').select('name').execute()
  const unknown = applied.find((migration) => !Object.hasOwn(migrations, migration.name))
  if (unknown === undefined) return
  const what = `${name} has been used by a newer version of the service, whose migration ${unknown.name} this one does not know`
  throw new ConfigError(`${what}; start that version, or use another database`)
}
