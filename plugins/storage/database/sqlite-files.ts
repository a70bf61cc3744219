import fs from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'

/** What every file of SQLite begins with (sqlite.org/fileformat.html, section 1.3). */
const magic = Buffer.from('SQLite format 3\0')

/** In the words of SQLite (sqlite.org/rescode.html), as far as there are any. */
const cannotOpen = 14
const notADatabase = 26

/**
 * Tells whether what is open is still what has the names of the database and of its log. SQLite itself does not look: it
 * goes on in a file that was removed, or under one that was overwritten, and what it commits there nobody will see.
 */
export class OpenFiles {
  readonly #file: string
  /** Never closed as long as the database is open: that would give up all locks on the file (fcntl(2)). */
  readonly #fd: number
  readonly #opened = new Map<string, fs.Stats>()
  readonly #start = Buffer.alloc(magic.length)

  constructor(file: string) {
    this.#file = file
    this.#fd = fs.openSync(file, 'r')
  }

  /** @throws with a sentence, and an error code of SQLite's */
  requireUntouched(): void {
    this.#requireSame(this.#file)
    // There from the first transaction on, until all have closed the database.
    this.#requireSame(`${this.#file}-wal`)
    const length = fs.readSync(this.#fd, this.#start, 0, magic.length, 0)
    if (length === magic.length && this.#start.equals(magic)) return
    throw failure('the file of the database was overwritten', notADatabase)
  }

  #requireSame(path: string): void {
    const opened = this.#opened.get(path)
    const found = fs.statSync(path, { throwIfNoEntry: false })
    if (opened === undefined) {
      if (found !== undefined) this.#opened.set(path, found)
    } else if (found === undefined) {
      throw failure('a file of the database is gone', cannotOpen)
    } else if (found.ino !== opened.ino || found.dev !== opened.dev) {
      throw failure('another file is in the place of one of the database', cannotOpen)
    }
  }
}

/**
 * Refuses a file in which somebody else keeps tables, before anything in it is changed. The migrator's are the first that
 * the service makes.
 * @throws as above
 */
export function requireOwn(database: DatabaseSync): void {
  const tables = database.prepare(`select name from sqlite_schema where type = 'table' and name not like 'sqlite%'`)
  const names = tables.all().map(({ name }) => String(name))
  if (names.length === 0 || names.some((name) => name.startsWith('kysely_migration'))) return
  throw failure(`it is another application's, which has a table ${names[0]} in it`, notADatabase)
}

function failure(message: string, errcode: number): Error {
  return Object.assign(new Error(message), { errcode })
}
