import { once } from 'node:events'
import { extname } from 'node:path'
import type { SQLInputValue } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import type { CompiledQuery, QueryResult } from 'kysely'
import { DatabaseUnavailable } from './failures.ts'
import { translate } from './sqlite-errors.ts'
import type { Connection, FromThread, Statement, ToThread } from './sqlite-messages.ts'
import { rowsOf } from './sqlite-rows.ts'

interface Options {
  file: string
  /** How long the first statement waits for others who hold the file. */
  openingMilliseconds: number
  onFailure(failure: DatabaseUnavailable): void
}

interface Asked {
  resolve(answer: FromThread): void
  reject(error: unknown): void
}

/**
 * Node's own SQLite, which needs no native addon, on a thread beside the event loop: its system calls are synchronous,
 * and a commit waits for the disk. The file is opened by the first statement.
 */
export class SqliteThread {
  readonly #worker: Worker
  /** They are answered in their order. */
  readonly #asked: Asked[] = []
  readonly #onFailure: Options['onFailure']
  #ended: DatabaseUnavailable | undefined

  constructor({ file, openingMilliseconds, onFailure }: Options) {
    this.#onFailure = onFailure
    const script = new URL(`./sqlite-worker${extname(import.meta.url)}`, import.meta.url)
    this.#worker = new Worker(script, { execArgv: [], workerData: { file, openingMilliseconds } })
    this.#worker.unref()
    this.#worker.on('message', (answer: FromThread) => {
      this.#asked.shift()?.resolve(answer)
      if (this.#asked.length === 0) this.#worker.unref()
    })
    this.#worker.on('error', (error) => this.#end(error))
    this.#worker.on('exit', () => this.#end(new Error('its thread has ended')))
  }

  /** @throws {DatabaseBusy} at once when somebody else holds the file, and {DatabaseUnavailable} */
  async execute<R>(
    query: CompiledQuery,
    connection: Connection = 'writer',
    flushes?: boolean,
  ): Promise<QueryResult<R>> {
    const answer = await this.#ask({
      kind: 'one',
      connection,
      ...toStatement(query),
      ...(flushes !== undefined && { flushes }),
    })
    // Kysely's callers know what their columns are.
    if (answer.kind === 'rows') return { rows: answer.rows as R[] }
    return { rows: [], numAffectedRows: BigInt(answer.rows) }
  }

  async commitWith(last: CompiledQuery): Promise<void> {
    await this.#ask({ kind: 'last', statement: toStatement(last) })
  }

  /** Runs all as one transaction in which each must change a row. @returns whether that is so; else nothing is changed */
  async changeAll(queries: CompiledQuery[], flushes: boolean): Promise<boolean> {
    const answer = await this.#ask({ kind: 'all', statements: queries.map(toStatement), flushes })
    return answer.kind === 'changed' && answer.rows === 1
  }

  async close(): Promise<void> {
    if (this.#ended !== undefined) return
    this.#worker.ref()
    const exited = once(this.#worker, 'exit')
    this.#worker.postMessage('close')
    await exited
  }

  async #ask(question: ToThread): Promise<Exclude<FromThread, { kind: 'failed' }>> {
    const answer = await this.#post(question)
    if (answer.kind !== 'failed') return answer
    const error = translate(Object.assign(new Error(answer.message), { errcode: answer.errcode }))
    if (error instanceof DatabaseUnavailable) this.#onFailure(error)
    throw error
  }

  #post(question: ToThread): Promise<FromThread> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended)
      if (this.#asked.length === 0) this.#worker.ref()
      this.#asked.push({ resolve, reject })
      this.#worker.postMessage(question)
    })
  }

  #end(error: Error): void {
    this.#ended ??= new DatabaseUnavailable(error.message, error)
    for (const { reject } of this.#asked.splice(0)) reject(this.#ended)
  }
}

function toStatement(query: CompiledQuery): Statement {
  const rows = rowsOf(query)
  return { sql: query.sql, parameters: query.parameters.map(toInput), ...(rows !== undefined && { rows }) }
}

function toInput(value: unknown): SQLInputValue {
  if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint')
    return value
  if (value instanceof Uint8Array) return value
  throw new TypeError(`SQLite has no type for ${typeof value}`)
}
