/** Another process has held the database for longer than a statement waits. `lib/problems.ts` knows it by its code. */
export class DatabaseBusy extends Error {
  readonly code = 'database_busy'

  constructor(cause: Error) {
    super(cause.message, { cause })
  }
}
