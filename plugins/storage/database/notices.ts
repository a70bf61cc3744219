import { Notice } from '../../../lib/notice.ts'

/** In the words of SQL; `other` is what begins and ends transactions, notifies, or makes tables. */
export type StatementKind = 'select' | 'insert' | 'update' | 'delete' | 'other'

/** A statement was answered: the time has the wait for a connection or for the thread in it, and failures count too. */
export const statementEnded = new Notice<[kind: StatementKind, seconds: number]>()

/** A transaction was committed, and is on the disk where it is `flushed`. */
export const committed = new Notice<[flushed: boolean, seconds: number]>()
