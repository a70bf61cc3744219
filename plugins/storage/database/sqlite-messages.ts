import type { SQLInputValue } from 'node:sqlite'

/** The writer is the one whose transactions there are; the reader sees what was committed, and waits for nobody. */
export type Connection = 'writer' | 'reader'

export interface Statement {
  sql: string
  parameters: SQLInputValue[]
  /** Of one that runs once for each of several rows of parameters: these, as JSON. */
  rows?: string
}

export type ToThread =
  | (Statement & {
      kind: 'one'
      connection: Connection
      /** Whether what is committed from here on survives a power cut; a transaction keeps what it began with. */
      flushes?: boolean
    })
  /** The last statement of the transaction under way, and its commit. */
  | { kind: 'last'; statement: Statement }
  /** A transaction whose statements must change rows each, or nothing is changed. */
  | { kind: 'all'; statements: Statement[]; flushes: boolean }

export type FromThread =
  | { kind: 'rows'; rows: object[] }
  | { kind: 'changed'; rows: number }
  /** An error loses what is special about it on its way out of a thread. */
  | { kind: 'failed'; message: string; errcode: number | undefined }
