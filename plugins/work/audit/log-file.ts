import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { setImmediate as othersTurn, setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { ConfigError, reasonOf } from '../../config.ts'
import type { AuditRow } from './rows.ts'

const { O_APPEND, O_CREAT, O_NONBLOCK, O_WRONLY } = constants

/** So many characters wait while nobody reads a pipe, or its disk is slow. Lines beyond that are dropped. */
const mostWaiting = 4 * 1024 * 1024
const pauseMilliseconds = 100
/** How long a process that ends waits for the reader. */
const endMilliseconds = 1000

/** The same rows as JSON lines. The table is what counts: a file that cannot be written to is told of in the log. */
export class AuditLogFile {
  readonly #name: string
  readonly #log: FastifyBaseLogger
  #file: FileHandle
  #text = ''
  #writing: Promise<void> | undefined
  #isMoved = false
  #fails = false
  readonly #ending = new AbortController()

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
    if (this.#text.length < mostWaiting) this.#text += `${JSON.stringify(lineOf(row))}\n`
    else this.#tellFailure(new Error('nobody reads it'))
    this.#writing ??= this.#writeAll()
  }

  /** To be called when the file was renamed: what follows goes into a new one. */
  reopen(): void {
    this.#isMoved = true
    this.#writing ??= this.#writeAll()
  }

  async close(): Promise<void> {
    const timer = setTimeout(() => this.#ending.abort(), endMilliseconds)
    await this.#writing
    clearTimeout(timer)
    await this.#file.close()
  }

  async #writeAll(): Promise<void> {
    await othersTurn()
    while (this.#text !== '' || this.#isMoved) {
      const text = this.#text
      this.#text = ''
      try {
        if (this.#isMoved) await this.#openAgain()
        await this.#append(Buffer.from(text))
        this.#fails = false
      } catch (err) {
        this.#tellFailure(err)
      }
    }
    this.#writing = undefined
  }

  /** Waits for the reader of a pipe that is full. */
  async #append(data: Buffer): Promise<void> {
    const { signal } = this.#ending
    for (let at = 0; at < data.length; ) {
      try {
        at += (await this.#file.write(data, at)).bytesWritten
      } catch (error) {
        if (!isFull(error) || signal.aborted) throw error
        await sleep(pauseMilliseconds)
      }
    }
  }

  #tellFailure(err: unknown): void {
    if (!this.#fails) this.#log.error({ err, file: this.#name }, 'AUDIT_LOG_FILE cannot be written to')
    this.#fails = true
  }

  async #openAgain(): Promise<void> {
    this.#isMoved = false
    const before = this.#file
    this.#file = await openFile(this.#name)
    await before.close()
  }
}

/**
 * Whole lines at its end, also when several processes have it open. A pipe must never hold up a thread: without a reader
 * it is refused, ENXIO (open(2), O_NONBLOCK).
 */
function openFile(name: string): Promise<FileHandle> {
  return open(name, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o600)
}

function isFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN'
}

/** Fields as in the log; what a row does not have is left out. */
function lineOf({ time, ...row }: AuditRow): object {
  const fields = Object.entries(row).filter(([name, value]) => value !== null && name !== 'act')
  return { time: new Date(time).toISOString(), ...Object.fromEntries(fields) }
}
