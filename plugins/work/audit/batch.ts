import type { FastifyBaseLogger } from 'fastify'
import { newRequestId, withRequestId } from '../../../lib/context.ts'
import { isPassing } from '../../storage/database/failures.ts'
import type { AuditRow } from './rows.ts'

/** How long a row waits for others. */
const gatherMilliseconds = 1000
/** So many do not wait any longer. */
const mostAtOnce = 2000
/** So many wait when the database is away; nothing more is done that could not be written down. */
const mostWaiting = 10_000

/** Rows of what has no transaction of its own, such as downloads: many are written in one. */
export class Batch {
  readonly #insert: (rows: AuditRow[]) => Promise<void>
  readonly #log: FastifyBaseLogger
  #waiting: AuditRow[] = []
  #writing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #isStuck = false

  constructor(insert: (rows: AuditRow[]) => Promise<void>, log: FastifyBaseLogger) {
    this.#insert = insert
    this.#log = log
  }

  get isFull(): boolean {
    return this.#waiting.length >= mostWaiting
  }

  add(rows: AuditRow[]): void {
    this.#waiting.push(...rows)
    if (this.#waiting.length >= mostAtOnce && !this.#isStuck) this.#write()
    else this.#timer ??= setTimeout(() => this.#write(), gatherMilliseconds).unref()
  }

  /** Writes what waits, now. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing
    this.#write()
    await this.#writing
  }

  /** At the end of the process. */
  tellLost(): void {
    if (this.#waiting.length > 0) this.#log.error({ rows: this.#waiting.length }, 'rows of the audit table are lost')
  }

  #write(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    // For all whose rows they are, and not for the one whose row was the first to wait.
    this.#writing ??= withRequestId(() => this.#writeAll(), newRequestId())().finally(() => {
      this.#writing = undefined
    })
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const rows = this.#waiting.splice(0, mostAtOnce)
      try {
        await this.#writeSome(rows)
      } catch (err) {
        this.#waiting.unshift(...rows)
        if (!this.#isStuck) this.#log.error({ err }, 'the audit table cannot be written to; its rows wait')
        this.#isStuck = true
        this.#timer ??= setTimeout(() => this.#write(), gatherMilliseconds).unref()
        return
      }
      if (this.#isStuck) this.#log.info('the audit table can be written to again')
      this.#isStuck = false
    }
  }

  /** One that the database does not take must not keep the others from it. @throws when the database is away */
  async #writeSome(rows: AuditRow[]): Promise<void> {
    try {
      await this.#insert(rows)
    } catch (error) {
      if (isPassing(error)) throw error
      const [row] = rows
      if (rows.length > 1) for (const one of rows) await this.#writeSome([one])
      else this.#log.error({ err: error, row }, 'the audit table does not take this row')
    }
  }
}
