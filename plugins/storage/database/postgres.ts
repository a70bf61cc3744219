import {
  ColumnDefinitionNode,
  CompiledQuery,
  type DataTypeNode,
  type Dialect,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  sql,
} from 'kysely'
import pg from 'pg'
import { ConfigError } from '../../config.ts'
import type { Engine } from './engine.ts'
import { DatabaseUnavailable } from './failures.ts'
import { migrate } from './migrate.ts'
import { PostgresDriver, UnflushedPostgresDriver } from './postgres-driver.ts'
import { reasonOf } from './postgres-errors.ts'
import { FullDisk } from './postgres-full-disk.ts'
import { beatMilliseconds, listen, notify } from './postgres-notifications.ts'
import type { Server } from './postgres-url.ts'
import type { Tables } from './tables.ts'

export interface PostgresOptions {
  /** The variable that names the server, for messages. */
  variable: string
  server: Server
  poolSize: number
  connectMilliseconds: number
  statementMilliseconds: number
  /** An idle connection was lost. */
  onLost(error: Error): void
  /** Notifications are not heard from here on. */
  onDeaf(error: unknown): void
  /** They are heard again. */
  onHearing(): void
}

/** The oldest version that is tested. */
const oldestVersion = 15

/** The server ends by itself what takes too long; only when it is cut off the driver has to. */
const cutMilliseconds = 5000
/** A process that stands still in a transaction, or is cut off, must not hold rows that others wait for. */
const standstillMilliseconds = 10_000
const migrationMilliseconds = 3_600_000

export function openPostgres(options: PostgresOptions): Engine {
  const { variable, server, statementMilliseconds } = options
  const pool = createPool(options, statementMilliseconds)
  const fullDisk = new FullDisk()
  const note = (error: unknown) => fullDisk.note(error)
  return {
    dialect: createDialect(new PostgresDriver(pool, note)),
    unflushed: createDialect(new UnflushedPostgresDriver(pool, note)),
    insertAll,
    failure: () => fullDisk.failure,
    isShared: true,
    nextSequence: sql<number>`nextval('job_order')`,
    clock: sql<number>`cast(extract(epoch from clock_timestamp()) * 1000 as bigint)`,

    notify,
    listen: (db, listener) =>
      listen({ ...options, db, listener, createClient: () => new pg.Client(clientConfig(options, beatMilliseconds)) }),

    async migrate() {
      // A change of a large table, or the wait for another process that makes it, takes longer than any statement may.
      const pool = createPool({ ...options, poolSize: 2 }, migrationMilliseconds)
      const db = new Kysely<Tables>({ dialect: createDialect(new PostgresDriver(pool)) })
      try {
        await requireFit(db, variable)
        await migrate(db, variable)
      } catch (error) {
        throw toStartError(error, variable, server)
      } finally {
        await db.destroy()
      }
    },

    async listTables(db) {
      const { rows } = await sql<{ name: string }>`
        select tablename as name from pg_tables where schemaname = current_schema()`.execute(db)
      return rows.map(({ name }) => name)
    },

    async check(db) {
      const { rows } = await sql<{ mode: string }>`
        select current_setting('transaction_read_only') as mode`.execute(db)
      if (rows[0]?.mode !== 'off') throw new Error('the server of the database is a standby, or read-only')
      await fullDisk.requireOver(db)
    },
  }
}

/** By one parameter, so that the statement is the same for any number of rows. */
const insertAll: Engine['insertAll'] = (db, into, columns) => {
  const values = columns.map((type, index) => {
    const value = sql`value ->> ${sql.lit(index)}`
    return type === 'text' ? value : sql`cast(${value} as bigint)`
  })
  const rows = sql`jsonb_array_elements(${''}::jsonb) as rows (value)`
  const { sql: text } = sql`${into} select ${sql.join(values)} from ${rows}`.compile(db)
  return (rows) => CompiledQuery.raw(text, [JSON.stringify(rows)])
}

function createDialect(driver: Driver): Dialect {
  return {
    createDriver: () => driver,
    createQueryCompiler: () => new ByteOrderCompiler(),
    createAdapter: () => new PostgresAdapter(),
    createIntrospector: (db) => new PostgresIntrospector(db),
  }
}

/** Text is compared by its bytes, as SQLite does it: pages must not depend on the collation of the database. */
class ByteOrderCompiler extends PostgresQueryCompiler {
  protected override visitDataType(node: DataTypeNode): void {
    super.visitDataType(node)
    const isColumn = this.parentNode !== undefined && ColumnDefinitionNode.is(this.parentNode)
    if (isColumn && node.dataType === 'text') this.append(' collate "C"')
  }
}

function clientConfig({ server, connectMilliseconds }: PostgresOptions, queryMilliseconds: number): pg.ClientConfig {
  return { ...server, connectionTimeoutMillis: connectMilliseconds, query_timeout: queryMilliseconds, keepAlive: true }
}

function createPool(options: PostgresOptions, statementMilliseconds: number) {
  const { poolSize, onLost } = options
  const pool = new pg.Pool({
    ...clientConfig(options, statementMilliseconds + cutMilliseconds),
    max: poolSize,
    statement_timeout: statementMilliseconds,
    idle_in_transaction_session_timeout: standstillMilliseconds,
    options: '-c default_transaction_isolation=read\\ committed',
    types: { getTypeParser },
  })
  // The pool adds the whole connection to the error, with the key that cancels its statements.
  pool.on('error', ({ message }) => onLost(new Error(message)))
  // An error of a connection in use fails its statement; without a listener it would end the process as well.
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

const { builtins } = pg.types

/** `bigint`, and what it sums up to, are numbers of JavaScript here; one that cannot be is an error, as SQLite has it. */
const getTypeParser: typeof pg.types.getTypeParser = (type: number, format?: 'text' | 'binary') =>
  type === builtins.INT8 || type === builtins.NUMERIC ? toInteger : pg.types.getTypeParser(type, format)

function toInteger(text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value)) return value
  throw new RangeError(`the database has ${text}, which is no integer of up to 53 bits`)
}

/** @throws {ConfigError} when the server is too old, or the database is not for us */
async function requireFit(db: Kysely<Tables>, variable: string): Promise<void> {
  const { rows } = await sql<{ version: number; encoding: string; schema: string | null; may: boolean | null }>`
    select current_setting('server_version_num')::int / 10000 as version, current_setting('server_encoding') as encoding,
      current_schema() as schema, has_schema_privilege(current_schema(), 'CREATE') as may`.execute(db)
  const found = rows[0]
  if (found === undefined || found.version < oldestVersion) {
    throw new ConfigError(
      `${variable} must name PostgreSQL ${oldestVersion} or newer; its server is version ${found?.version}`,
    )
  }
  if (found.encoding !== 'UTF8') {
    throw new ConfigError(`${variable} must name a database whose encoding is UTF8, not ${found.encoding}`)
  }
  if (found.schema === null || found.may !== true) {
    throw new ConfigError(`${variable} must name a user who may create tables in the schema of that database`)
  }
}

function toStartError(error: unknown, variable: string, { host, port }: Server): unknown {
  if (!(error instanceof DatabaseUnavailable)) return error
  const cause = error.cause instanceof Error ? error.cause : error
  const what = `${variable} must name a PostgreSQL that the service can use; the one at ${host}:${port} cannot be used`
  return new ConfigError(`${what}: ${reasonOf(cause)}`, { cause })
}
