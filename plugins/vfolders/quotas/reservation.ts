import type { Amount } from '../../../backends/backend.ts'
import type { AuditRow } from '../../work/audit/rows.ts'
import type { NewEvent } from '../../work/events/event.ts'
import type { Stored } from '../told.ts'

/** Room in a vfolder that is set aside for one piece of work, which must `end` it. */
export interface Reservation {
  /** Aborts, with the `Problem` that is told, when the manager ends the work; absent where it is over in a moment. */
  ended?: AbortSignal

  /** Sets more aside until `needed` is covered. @throws {Problem} `quota_exceeded`, `work_ended` */
  cover(needed: Amount): Promise<void>

  /**
   * Makes sure that all this is still set aside: it was given back if this process stood still for so long that it was
   * taken for dead. @throws {Problem} `quota_exceeded` when somebody else has the room by now, or `vfolder_not_found`
   * when the vfolder was deleted, also where there is another one of that ID; `work_ended`
   */
  confirm(): Promise<void>

  /**
   * Counts a change on the storage, and takes it out of the room that was set aside, as far as that goes. When the
   * database is away it is counted later: the change has been made. What was stored by it is told.
   */
  settle(by: Amount, stored?: Stored, audited?: AuditRow[]): Promise<void>

  /**
   * Counts what has changed since, tells it, and gives back what was not used; when the database is away, later. Rows for
   * the audit trail, here as with `settle`, are written in the same transaction.
   */
  end(by?: Amount, events?: NewEvent[], audited?: AuditRow[]): Promise<void>
}
