import { setTimeout as sleep } from 'node:timers/promises'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type QueryResult,
  SelectQueryNode,
  type TransactionSettings,
} from 'kysely'
import { DatabaseBusy, DatabaseUnavailable } from './failures.ts'

const firstPause = 1
const longestPause = 20

interface OpenTransaction {
  readonly owner: DatabaseConnection
  readonly ended: PromiseWithResolvers<void>
  failure?: DatabaseUnavailable
}

/**
 * Waits for a database that another process holds, without holding up the event loop or those who only read. Around a
 * driver of one connection, whose statements throw `DatabaseBusy` at once.
 */
export class PatientDriver implements Driver {
  readonly #driver: Driver
  readonly #patience: number
  #connection: DatabaseConnection | undefined
  #transaction: OpenTransaction | undefined
  #lastInLine: Promise<void> = Promise.resolve()

  constructor(driver: Driver, milliseconds: number) {
    this.#driver = driver
    this.#patience = milliseconds
  }

  async init(): Promise<void> {
    await this.#driver.init()
    this.#connection = await this.#driver.acquireConnection()
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new PatientConnection((asker, query) => this.#execute(asker, query))
  }

  async beginTransaction(owner: DatabaseConnection, settings: TransactionSettings): Promise<void> {
    await this.#inLine(async () => {
      this.#transaction = { owner, ended: Promise.withResolvers() }
      try {
        await this.#driver.beginTransaction(this.#only, settings)
      } catch (error) {
        this.#end(owner)
        throw error
      }
    })
  }

  commitTransaction(): Promise<void> {
    return this.#within(this.#transaction, () => this.#driver.commitTransaction(this.#only))
  }

  async rollbackTransaction(): Promise<void> {
    try {
      await this.#driver.rollbackTransaction(this.#only)
    } catch (error) {
      if (this.#transaction?.failure === undefined) throw error
    }
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    this.#end(connection)
  }

  async destroy(): Promise<void> {
    await this.#lastInLine
    await this.#driver.destroy()
  }

  get #only(): DatabaseConnection {
    if (this.#connection === undefined) throw new Error('the database is not open')
    return this.#connection
  }

  #execute<R>(asker: DatabaseConnection, query: CompiledQuery): Promise<QueryResult<R>> {
    const execute = async () => this.#only.executeQuery<R>(query)
    // Within a transaction the database is ours.
    if (this.#transaction?.owner === asker) return this.#within(this.#transaction, execute)
    return SelectQueryNode.is(query.query) ? this.#patiently(this.#deadline(), execute) : this.#inLine(execute)
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

  /** One after the other, in the order of asking: a later write must not overtake an earlier one that waits. */
  async #inLine<T>(work: () => Promise<T>): Promise<T> {
    const deadline = this.#deadline()
    const before = this.#lastInLine
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#lastInLine = promise
    await before
    try {
      return await this.#patiently(deadline, work)
    } finally {
      resolve()
    }
  }

  /** Waits for a transaction of our own too, since all share one connection. */
  async #patiently<T>(deadline: number, work: () => Promise<T>): Promise<T> {
    for (let pause = firstPause; ; pause = Math.min(2 * pause, longestPause)) {
      while (this.#transaction !== undefined) await this.#transaction.ended.promise
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

/** What Kysely holds while it works on one thing; all of them share the one real connection. */
class PatientConnection implements DatabaseConnection {
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
