import type { CompiledQuery, Dialect, Kysely, RawBuilder } from 'kysely'
import type { DatabaseUnavailable } from './failures.ts'
import type { Database, Tables } from './tables.ts'

export interface Listener {
  /** Another process, or this one, has told something. */
  onMessage(message: string): void
  /** From here on messages are heard; earlier ones may not have been. */
  onHearing(): void
}

export interface Listening {
  /** Whether messages are heard just now. */
  readonly hears: boolean
  close(): Promise<void>
}

export type ColumnType = 'bigint' | 'text'

/** A statement that adds these rows. */
export type InsertAll = (rows: unknown[][]) => CompiledQuery

/** What each kind of database does in its own way. */
export interface Engine {
  dialect: Dialect
  /** The same, but a power cut may take back what was committed. It ends with the other one. */
  unflushed: Dialect
  /**
   * Runs changes as one transaction in one trip, unflushed unless told otherwise, where there is one writer at a time: so what a statement finds
   * out in its conditions still holds when it is committed.
   * @returns whether each has changed a row; else nothing is changed
   */
  changeAll?(queries: CompiledQuery[], flushes?: boolean): Promise<boolean>
  /** Adds many rows by one statement, which is compiled once. @param into begins it: `insert into …`, with the columns */
  insertAll(db: Database, into: RawBuilder<unknown>, columns: ColumnType[]): InsertAll
  /** Since when it cannot be written to, as far as is known: the last failure of that kind that is not known to be over. */
  failure(): DatabaseUnavailable | undefined
  /** Whether processes on several machines, each with a DATA_DIR of its own, use the same database. */
  isShared: boolean
  /** A number that is larger than that of every earlier job; an expression, for one statement. */
  nextSequence: RawBuilder<number>
  /** Its clock, in milliseconds since 1970; undefined where that is the clock of this machine. */
  clock: RawBuilder<number> | undefined
  /** Tells all processes that use the database; in a transaction, when it is committed. */
  notify(on: Database, message: string): Promise<void>
  /** Hears what processes tell, until it is closed. It keeps no process alive. */
  listen(db: Kysely<Tables>, listener: Listener): Listening
  /** Makes the tables what this version of the service needs. */
  migrate(db: Kysely<Tables>): Promise<void>
  listTables(db: Kysely<Tables>): Promise<string[]>
  /** Rejects with a sentence when the database is not to be used, or not any more. */
  check(db: Kysely<Tables>): Promise<void>
}
