import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { type SelectModifierNode, SqliteAdapter, SqliteDialect, SqliteQueryCompiler, sql } from 'kysely'
import { ConfigError } from '../../config.ts'
import type { Engine } from './engine.ts'
import { DatabaseUnavailable } from './failures.ts'
import { migrate } from './migrate.ts'
import { PatientDriver } from './patient-driver.ts'
import { translate } from './sqlite-errors.ts'
import { Outage } from './sqlite-outage.ts'

/** How long to wait for a lock of another process. */
const lockMilliseconds = 2000

/**
 * Lets Kysely, which expects better-sqlite3, use Node's own SQLite, which needs no native addon.
 * @throws {ConfigError} when the file cannot be opened, or be written to
 */
export function openSqlite(file: string): Engine {
  const outage = new Outage(file)
  const database = open(file)
  const isStillThere = watchFile(file)

  /** Its errors are those of `failures.ts`, where they fit. */
  function ask<T>(work: () => T): T {
    try {
      return translating(work)
    } catch (error) {
      if (error instanceof DatabaseUnavailable) outage.note(error)
      throw error
    }
  }

  function adapt(statement: StatementSync) {
    const toInputs = (parameters: readonly unknown[]) => parameters.map(toInput)
    return {
      reader: statement.columns().length > 0,
      all: (parameters: readonly unknown[]) => ask(() => statement.all(...toInputs(parameters))),
      run: (parameters: readonly unknown[]) => ask(() => statement.run(...toInputs(parameters))),
      iterate: (): never => {
        throw new Error('no statement of the service is streamed')
      },
    }
  }

  const prepared = new Map<string, ReturnType<typeof adapt>>()
  const dialect = new SqliteDialect({
    database: {
      close: () => database.close(),
      prepare(sql) {
        const known = prepared.get(sql)
        if (known !== undefined) return known
        // A transaction that reads first and then writes could otherwise find that another process wrote in between
        // (SQLITE_BUSY_SNAPSHOT of sqlite.org/isolation.html), and would have to start again.
        const statement = adapt(ask(() => database.prepare(sql === 'begin' ? 'begin immediate' : sql)))
        prepared.set(sql, statement)
        return statement
      },
    },
  })
  return {
    dialect: {
      createDriver: () => new PatientDriver(dialect.createDriver(), lockMilliseconds),
      createQueryCompiler: () => new LocklessCompiler(),
      createAdapter: () => new TransactionalAdapter(),
      createIntrospector: (db) => dialect.createIntrospector(db),
    },
    isShared: false,
    nextSequence: sql<number>`(select coalesce(max(sequence), 0) + 1 from jobs)`,
    clock: undefined,
    migrate: (db) => migrate(db, `DATA_DIR: the database ${file}`).catch((error) => refuseToStart(file, error)),
    listTables: async (db) => (await db.introspection.getTables()).map(({ name }) => name),
    async check(db) {
      isStillThere()
      await outage.requireOver(db)
    },
  }
}

function open(file: string): DatabaseSync {
  try {
    mkdirSync(dirname(file), { recursive: true })
  } catch (error) {
    const reason = error instanceof Error ? error.message : error
    throw new ConfigError(`DATA_DIR must be a directory that can be made: ${reason}`, { cause: error })
  }
  try {
    return translating(() => openForWriting(file))
  } catch (error) {
    return refuseToStart(file, error)
  }
}

function refuseToStart(file: string, error: unknown): never {
  if (!(error instanceof DatabaseUnavailable)) throw error
  throw new ConfigError(`DATA_DIR: the database ${file} cannot be used: ${error.message}`, { cause: error })
}

function openForWriting(file: string): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: lockMilliseconds })
  database.exec('PRAGMA journal_mode = WAL')
  // In WAL mode only FULL makes a commit survive a power cut (sqlite.org/pragma.html#pragma_synchronous).
  database.exec('PRAGMA synchronous = FULL')
  database.exec('PRAGMA foreign_keys = ON')
  // A file that may not be written to is opened for reading only, which would show at the first change.
  database.exec('PRAGMA user_version = 0')
  // From here on SQLite itself would stand still with the whole process; the driver waits instead.
  database.exec('PRAGMA busy_timeout = 0')
  return database
}

function translating<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw translate(error)
  }
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

function toInput(value: unknown): SQLInputValue {
  if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint')
    return value
  if (value instanceof Uint8Array) return value
  throw new TypeError(`SQLite has no type for ${typeof value}`)
}

/** Gives a check that throws when the file was removed, or replaced: what is written then goes with the process. */
function watchFile(file: string): () => void {
  const opened = statSync(file)
  return () => {
    const found = statSync(file, { throwIfNoEntry: false })
    if (found === undefined) throw new Error(`the file of the database is gone; what is written now will be lost`)
    if (found.ino !== opened.ino || found.dev !== opened.dev) {
      throw new Error('another file is in the place of the database; what is written now will be lost')
    }
  }
}
