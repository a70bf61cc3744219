import { type FileHandle, open } from 'node:fs/promises'
import { setImmediate as othersTurn } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { ConfigError, reasonOf } from '../../config.ts'
import type { AuditRow } from './rows.ts'

/** The same rows as JSON lines. The table is what counts: a file that cannot be written to is told of in the log. */
export class AuditLogFile {
  readonly #name: string
  readonly #log: FastifyBaseLogger
  #file: FileHandle
  #text = ''
  #writing: Promise<void> | undefined
  #isMoved = false
  #fails = false

  private constructor(name: string, file: FileHandle, log: FastifyBaseLogger) {
    this.#name = name
    this.#file = file
    this.#log = log
  }

  /** @throws {ConfigError} */
  static async open(name: string, log: FastifyBaseLogger): Promise<AuditLogFile> {
    try {
      return new AuditLogFile(name, await openFile(name), log)
    } catch (cause) {
      const rule = `AUDIT_LOG_FILE must name a file that can be written to, not ${name}: ${reasonOf(cause)}`
      throw new ConfigError(rule, { cause, file: name })
    }
  }

  write(row: AuditRow): void {
    this.#text += `${JSON.stringify(lineOf(row))}\n`
    this.#writing ??= this.#writeAll()
  }

  /** To be called when the file was renamed: what follows goes into a new one. */
  reopen(): void {
    this.#isMoved = true
    this.#writing ??= this.#writeAll()
  }

  async close(): Promise<void> {
    await this.#writing
    await this.#file.close()
  }

  async #writeAll(): Promise<void> {
    await othersTurn()
    while (this.#text !== '' || this.#isMoved) {
      const text = this.#text
      this.#text = ''
      try {
        if (this.#isMoved) await this.#openAgain()
        await this.#file.appendFile(text)
        this.#fails = false
      } catch (err) {
        if (!this.#fails) this.#log.error({ err, file: this.#name }, 'AUDIT_LOG_FILE cannot be written to')
        this.#fails = true
      }
    }
    this.#writing = undefined
  }

  async #openAgain(): Promise<void> {
    this.#isMoved = false
    const before = this.#file
    this.#file = await openFile(this.#name)
    await before.close()
  }
}

/** Whole lines at its end, also when several processes have it open. */
function openFile(name: string): Promise<FileHandle> {
  return open(name, 'a', 0o600)
}

/** Fields as in the log; what a row does not have is left out. */
function lineOf({ time, ...row }: AuditRow): object {
  const fields = Object.entries(row).filter(([name, value]) => value !== null && name !== 'act')
  return { time: new Date(time).toISOString(), ...Object.fromEntries(fields) }
}
