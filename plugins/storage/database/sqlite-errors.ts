import { DatabaseBusy, DatabaseUnavailable } from './failures.ts'

/** The low byte of an error number says what it is; the others say more (sqlite.org/rescode.html). */
const primaryCodes = {
  PERM: 3,
  BUSY: 5,
  NOMEM: 7,
  READONLY: 8,
  IOERR: 10,
  CORRUPT: 11,
  FULL: 13,
  CANTOPEN: 14,
  PROTOCOL: 15,
  NOLFS: 22,
  NOTADB: 26,
}

type PrimaryCode = keyof typeof primaryCodes

/** Those after which what can be read of the file is in doubt. */
const damaging: PrimaryCode[] = ['IOERR', 'CORRUPT', 'NOTADB']

function primaryCodeOf(error: unknown): PrimaryCode | undefined {
  if (!(error instanceof Error && 'errcode' in error && typeof error.errcode === 'number')) return undefined
  const low = error.errcode & 0xff
  return Object.entries(primaryCodes).find(([, code]) => code === low)?.[0] as PrimaryCode | undefined
}

/** What is wrong with a statement remains an error of SQLite's: it would fail anywhere. */
export function translate(error: unknown): unknown {
  const code = primaryCodeOf(error)
  if (code === undefined || !(error instanceof Error)) return error
  return code === 'BUSY' ? new DatabaseBusy(error) : new DatabaseUnavailable(error.message, error)
}

export function isDamaging({ cause }: DatabaseUnavailable): boolean {
  const code = primaryCodeOf(cause)
  return code !== undefined && damaging.includes(code)
}
