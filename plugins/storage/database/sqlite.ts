import { statSync } from 'node:fs'
import {
  type Dialect,
  type Driver,
  type SelectModifierNode,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  sql,
} from 'kysely'
import { ConfigError, reasonOf } from '../../config.ts'
import type { Engine } from './engine.ts'
import type { DatabaseUnavailable } from './failures.ts'
import { migrate } from './migrate.ts'
import { SqliteDriver } from './sqlite-driver.ts'
import { listen, notify } from './sqlite-notifications.ts'
import { Outage } from './sqlite-outage.ts'
import { insertAll } from './sqlite-rows.ts'
import { SqliteThread } from './sqlite-thread.ts'

/** How long to wait for a lock of another process. */
const lockMilliseconds = 2000

/**
 * Lets Kysely, which expects better-sqlite3, use Node's own SQLite, which needs no native addon.
 * @throws {ConfigError} when the file cannot be opened, or be written to
 */
export function openSqlite(file: string): Engine {
  const outage = new Outage(file)
  const onFailure = (failure: DatabaseUnavailable) => outage.note(failure)
  const driver = new SqliteDriver(
    new SqliteThread({ file, openingMilliseconds: lockMilliseconds, onFailure }),
    lockMilliseconds,
  )

  return {
    dialect: createDialect(driver),
    unflushed: createDialect(driver.unflushed()),
    changeAll: (queries, flushes) => driver.changeAll(queries, flushes),
    insertAll,
    failure: () => outage.failure,
    isShared: false,
    nextSequence: sql<number>`(select coalesce(max(sequence), 0) + 1 from jobs)`,
    clock: undefined,
    notify,
    listen,
    async migrate(db) {
      await migrate(db, `DATA_DIR: the database ${file}`).catch((error) => refuseToStart(file, error))
    },
    listTables: async (db) => (await db.introspection.getTables()).map(({ name }) => name),
    check: (db) => outage.requireOver(db),
  }
}

function createDialect(driver: Driver): Dialect {
  return {
    createDriver: () => driver,
    createQueryCompiler: () => new LocklessCompiler(),
    createAdapter: () => new TransactionalAdapter(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  }
}

/** @throws {ConfigError} that names the file */
function refuseToStart(file: string, cause: unknown): never {
  if (cause instanceof ConfigError) throw new ConfigError(cause.message, { cause, file })
  const isDirectory = statSync(file, { throwIfNoEntry: false })?.isDirectory()
  const reason = isDirectory ? 'it is a directory' : reasonOf(cause)
  throw new ConfigError(`DATA_DIR has ${file}, which cannot be used as the database: ${reason}`, { cause, file })
}

/**
 * SQLite does have transactional DDL, which Kysely does not use unless told: of processes that start at once one migrates
 * and the others wait, and one that dies in the middle leaves nothing.
 */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

/** Leaves out `for update`: a transaction of SQLite is the only one from its beginning on. */
class LocklessCompiler extends SqliteQueryCompiler {
  protected override visitSelectModifier(node: SelectModifierNode): void {
    if (node.modifier === 'Distinct') super.visitSelectModifier(node)
  }
}
