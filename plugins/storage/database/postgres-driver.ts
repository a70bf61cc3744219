import { CompiledQuery, type DatabaseConnection, type Driver, type QueryResult } from 'kysely'
import pg from 'pg'
import { DatabaseUnavailable } from './failures.ts'
import { takeLast } from './last-statement.ts'
import { translate } from './postgres-errors.ts'

/** Lets Kysely use a pool of connections, of which those that were lost are thrown away. */
export class PostgresDriver implements Driver {
  readonly #pool: pg.Pool
  readonly #onFailure: (error: unknown) => void

  constructor(pool: pg.Pool, onFailure: (error: unknown) => void = () => {}) {
    this.#pool = pool
    this.#onFailure = onFailure
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<PostgresConnection> {
    return new PostgresConnection(await translating(this.#pool.connect()), this.#onFailure)
  }

  async beginTransaction(connection: PostgresConnection): Promise<void> {
    await connection.run('begin')
  }

  async commitTransaction(connection: PostgresConnection): Promise<void> {
    const last = takeLast(connection)
    await connection.run(last === undefined ? 'commit' : `${inlined(last)}; commit`)
  }

  async rollbackTransaction(connection: PostgresConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback')).catch((error: unknown) => {
      // The server rolls back what it has lost the client of; the error that came before says more.
      if (!connection.isLost) throw error
    })
  }

  async releaseConnection(connection: PostgresConnection): Promise<void> {
    connection.release()
  }

  async destroy(): Promise<void> {
    await this.#pool.end()
  }
}

/** For transactions whose commits a power cut may take back (runtime-config-wal). It ends with the other driver of the pool. */
export class UnflushedPostgresDriver extends PostgresDriver {
  override async beginTransaction(connection: PostgresConnection): Promise<void> {
    await connection.run('begin; set local synchronous_commit to off')
  }

  override async destroy(): Promise<void> {}
}

class PostgresConnection implements DatabaseConnection {
  readonly #client: pg.PoolClient
  readonly #onFailure: (error: unknown) => void
  #isLost = false

  constructor(client: pg.PoolClient, onFailure: (error: unknown) => void) {
    this.#client = client
    this.#onFailure = onFailure
  }

  /** Whether nothing more may be asked of it: an answer to an earlier question may be on its way. */
  get isLost(): boolean {
    return this.#isLost
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const { rows, rowCount } = await this.#noting(this.#client.query(sql, [...parameters]))
    return { rows, ...(rowCount !== null && { numAffectedRows: BigInt(rowCount) }) }
  }

  /** One trip also for several commands, since they have no parameters. */
  async run(commands: string): Promise<void> {
    await this.#noting(this.#client.query(commands))
  }

  async #noting<T>(work: Promise<T>): Promise<T> {
    try {
      return await translating(work)
    } catch (error) {
      this.#isLost ||= error instanceof DatabaseUnavailable
      this.#onFailure(error)
      throw error
    }
  }

  streamQuery(): never {
    throw new Error('no statement of the service is streamed')
  }

  release(): void {
    this.#client.release(this.#isLost)
  }
}

/** A statement with its parameters, which are texts, as literals in it. */
function inlined({ sql, parameters }: CompiledQuery): string {
  return sql.replaceAll(/\$(\d+)/g, (_, number) => pg.escapeLiteral(String(parameters[Number(number) - 1])))
}

/** @throws {DatabaseBusy}, {DatabaseConflict} and {DatabaseUnavailable} in the place of the driver's own errors */
async function translating<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw translate(error)
  }
}
