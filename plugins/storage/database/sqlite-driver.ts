import { setTimeout as sleep } from 'node:timers/promises'
import { CompiledQuery, type DatabaseConnection, type Driver, type QueryResult, SelectQueryNode } from 'kysely'
import { DatabaseBusy, DatabaseUnavailable } from './failures.ts'
import { takeLast } from './last-statement.ts'
import type { SqliteThread } from './sqlite-thread.ts'

const firstPause = 1
const longestPause = 20

interface OpenTransaction {
  readonly owner: DatabaseConnection
  readonly ended: PromiseWithResolvers<void>
  failure?: DatabaseUnavailable
}

// A transaction that reads first and then writes could otherwise find that another process wrote in between
// (SQLITE_BUSY_SNAPSHOT of sqlite.org/isolation.html), and would have to start again.
const begin = CompiledQuery.raw('begin immediate')
const commit = CompiledQuery.raw('commit')
const rollback = CompiledQuery.raw('rollback')

/**
 * Lets Kysely use SQLite. It waits for a database that another process holds without holding up those who only read:
 * the statements of its thread throw `DatabaseBusy` at once.
 */
export class SqliteDriver implements Driver {
  readonly #thread: SqliteThread
  readonly #patience: number
  #transaction: OpenTransaction | undefined
  #lastInLine: Promise<void> = Promise.resolve()

  constructor(thread: SqliteThread, milliseconds: number) {
    this.#thread = thread
    this.#patience = milliseconds
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return new SqliteConnection((asker, query) => this.#execute(asker, query, true))
  }

  beginTransaction(owner: DatabaseConnection): Promise<void> {
    return this.#begin(owner, true)
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    const last = takeLast(connection)
    await this.#within(this.#transaction, async () => {
      if (last === undefined) await this.#thread.execute(commit)
      else await this.#thread.commitWith(last)
    })
  }

  async rollbackTransaction(): Promise<void> {
    try {
      await this.#thread.execute(rollback)
    } catch (error) {
      if (this.#transaction?.failure === undefined) throw error
    }
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    this.#end(connection)
  }

  async destroy(): Promise<void> {
    await this.#lastInLine
    await this.#thread.close()
  }

  /** The same, for changes that a power cut may take back. It ends with this one. */
  unflushed(): Driver {
    return {
      init: async () => {},
      acquireConnection: async () => new SqliteConnection((asker, query) => this.#execute(asker, query, false)),
      beginTransaction: (owner) => this.#begin(owner, false),
      commitTransaction: (connection) => this.commitTransaction(connection),
      rollbackTransaction: () => this.rollbackTransaction(),
      releaseConnection: (connection) => this.releaseConnection(connection),
      destroy: async () => {},
    }
  }

  /** Runs all as one transaction in which each must change a row, in one trip to the thread. */
  changeAll(queries: CompiledQuery[], flushes = false): Promise<boolean> {
    return this.#inLine(() => this.#thread.changeAll(queries, flushes))
  }

  async #begin(owner: DatabaseConnection, flushes: boolean): Promise<void> {
    await this.#inLine(async () => {
      this.#transaction = { owner, ended: Promise.withResolvers() }
      try {
        await this.#thread.execute(begin, 'writer', flushes)
      } catch (error) {
        this.#end(owner)
        throw error
      }
    })
  }

  async #execute<R>(asker: DatabaseConnection, query: CompiledQuery, flushes: boolean): Promise<QueryResult<R>> {
    // Within a transaction the database is ours.
    if (this.#transaction?.owner === asker) {
      return this.#within(this.#transaction, () => this.#thread.execute<R>(query))
    }
    if (SelectQueryNode.is(query.query)) {
      return this.#patiently(this.#deadline(), () => this.#thread.execute<R>(query, 'reader'))
    }
    return this.#inLine(() => this.#thread.execute<R>(query, 'writer', flushes))
  }

  /**
   * A database that fails may end a transaction by itself: what came after that would be outside of it, and its end
   * would fail because there is none. So all that follows fails as the first statement did.
   */
  async #within<T>(transaction: OpenTransaction | undefined, work: () => Promise<T>): Promise<T> {
    if (transaction?.failure !== undefined) throw transaction.failure
    try {
      return await work()
    } catch (error) {
      if (transaction !== undefined && error instanceof DatabaseUnavailable) transaction.failure = error
      throw error
    }
  }

  #deadline(): number {
    return performance.now() + this.#patience
  }

  /**
   * One after the other, in the order of asking, and after the transaction under way: a later write must not overtake an
   * earlier one that waits, and all share one connection.
   */
  async #inLine<T>(work: () => Promise<T>): Promise<T> {
    const deadline = this.#deadline()
    const before = this.#lastInLine
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#lastInLine = promise
    await before
    while (this.#transaction !== undefined) await this.#transaction.ended.promise
    try {
      return await this.#patiently(deadline, work)
    } finally {
      resolve()
    }
  }

  async #patiently<T>(deadline: number, work: () => Promise<T>): Promise<T> {
    for (let pause = firstPause; ; pause = Math.min(2 * pause, longestPause)) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof DatabaseBusy) || performance.now() >= deadline) throw error
      }
      await sleep(pause)
    }
  }

  #end(owner: DatabaseConnection): void {
    if (this.#transaction?.owner !== owner) return
    const { ended } = this.#transaction
    this.#transaction = undefined
    ended.resolve()
  }
}

type Execute = <R>(asker: DatabaseConnection, query: CompiledQuery) => Promise<QueryResult<R>>

/** What Kysely holds while it works on one thing. */
class SqliteConnection implements DatabaseConnection {
  readonly #execute: Execute

  constructor(execute: Execute) {
    this.#execute = execute
  }

  executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    return this.#execute(this, query)
  }

  streamQuery(): never {
    throw new Error('no statement of the service is streamed')
  }
}
