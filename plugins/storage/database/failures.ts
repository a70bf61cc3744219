/** What a database fails with. `lib/problems.ts` knows each by its code; a dialect translates what its driver throws. */

/** Another process has held the database for longer than a statement waits. */
export class DatabaseBusy extends Error {
  readonly code = 'database_busy'

  constructor(cause: Error) {
    super(cause.message, { cause })
  }
}

/**
 * The database cannot do its work as long as something outside of the service is not mended: its disk is full or fails,
 * its file is damaged, its server is away. The message is a sentence on the cause, for people. Nothing of a transaction
 * in which it is thrown remains.
 */
export class DatabaseUnavailable extends Error {
  readonly code = 'database_unavailable'

  constructor(reason: string, cause: Error) {
    super(reason, { cause })
  }
}

/** Of several transactions at the same time this one had to give way; nothing of it remains, and it may be repeated. */
export class DatabaseConflict extends DatabaseBusy {}

/** Whether the same may well succeed later, and nothing is wrong with what was asked. */
export function isPassing(error: unknown): boolean {
  return error instanceof DatabaseBusy || error instanceof DatabaseUnavailable
}
