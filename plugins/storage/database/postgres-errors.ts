import pg from 'pg'
import { DatabaseBusy, DatabaseConflict, DatabaseUnavailable } from './failures.ts'

/** No room for a table or a temporary file; without room for its log the server ends. */
const diskFull = '53100'

/**
 * What is wrong with the server and not with a statement, by SQLSTATE or its class
 * (postgresql.org/docs/current/errcodes-appendix.html). The server's own words may name people and places, and go into
 * the log only.
 */
const outages: Record<string, string> = {
  '08': 'the connection to its server broke',
  '25006': 'its server is a standby, or read-only',
  '28': 'its server does not let the service in',
  '3D': 'it is not on its server any more',
  '53': 'its server is out of memory or other resources',
  [diskFull]: 'the disk of its server is full',
  '53300': 'its server takes no more connections',
  '55000': 'its server cannot do that in its state',
  '57P': 'its server shuts down or starts',
  '58': 'the disk of its server fails',
  XX: 'its server fails, or its files are damaged',
}

/** Those after which the same transaction may succeed at once. */
const conflicts = ['40001', '40P01']

/** Somebody else held a lock for too long, or the statement took too long. */
const waits = ['55P03', '57014']

/** What is wrong with a statement remains an error of PostgreSQL's: it would fail anywhere. */
export function translate(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof RangeError || error instanceof TypeError) return error
  if (error.message === 'timeout exceeded when trying to connect') {
    return new DatabaseBusy(new Error('all connections to the database are in use', { cause: error }))
  }
  // All other errors of the driver itself are about the connection.
  if (!(error instanceof pg.DatabaseError)) return new DatabaseUnavailable('its server does not answer', error)
  const { code = '' } = error
  if (conflicts.includes(code)) return new DatabaseConflict(error)
  if (waits.includes(code)) return new DatabaseBusy(error)
  const outage = outages[code] ?? outages[code.slice(0, 3)] ?? outages[code.slice(0, 2)]
  return outage === undefined ? error : new DatabaseUnavailable(outage, error)
}

export function isFullDisk(error: unknown): error is DatabaseUnavailable {
  return (
    error instanceof DatabaseUnavailable && error.cause instanceof pg.DatabaseError && error.cause.code === diskFull
  )
}

/** The words of the server or of the system, which never have the password. */
export function reasonOf(error: Error): string {
  // One for each address of the host; it has no message of its own.
  if (error instanceof AggregateError) return error.errors.map((inner) => reasonOf(inner)).join(', ')
  return error.message
}
