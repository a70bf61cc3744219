import { randomUUID } from 'node:crypto'
import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { Backend, Call } from '../../backends/backend.ts'
import { BackendError, Unavailable, VolumeUnavailable } from '../../backends/errors.ts'
import type { Clock } from './database/clock.ts'
import type { Database } from './database/tables.ts'
import * as rows from './identity-rows.ts'

/** What stands in the root of a volume. */
const Mark = Type.Object({
  /** The volume itself. */
  volume: Type.String(),
  /** The database that it is used with. */
  database: Type.String(),
  /** Changes from time to time, and is written to the database first: one that lacks it is an older copy. */
  epoch: Type.String(),
})
type Mark = Static<typeof Mark>
const isMark = TypeCompiler.Compile(Mark)

/** How long a storage may take to be told from another one. */
const lookMilliseconds = 10_000

/**
 * Ties a volume and the database to each other. Whatever else answers in the place of the volume, such as the directory
 * that it should be mounted on, is refused, and so is a database that does not know what the volume holds.
 */
export class VolumeIdentity {
  readonly #db: Database & Clock
  readonly #name: string
  readonly #backend: Backend
  #isAdmitted: boolean
  #looking: Promise<void> | undefined

  constructor(db: Database & Clock, name: string, backend: Backend) {
    this.#db = db
    this.#name = name
    this.#backend = backend
    this.#isAdmitted = backend.readIdentity === undefined
  }

  get isAdmitted(): boolean {
    return this.#isAdmitted
  }

  /** @throws as `#verify` does */
  look(): Promise<void> {
    if (this.#backend.readIdentity === undefined) return Promise.resolve()
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #look(): Promise<void> {
    // Not the caller's signal: others wait for the same look.
    const call = { signal: AbortSignal.timeout(lookMilliseconds) }
    try {
      await this.#verify(call)
      this.#isAdmitted = true
    } catch (error) {
      // A storage that does not answer may still be the one that it was.
      if (error instanceof VolumeUnavailable) this.#isAdmitted = false
      throw error
    }
  }

  /** @throws {VolumeUnavailable} with why the storage is not the volume that the database knows, and how to accept it */
  async #verify(call: Call): Promise<void> {
    const known = await rows.find(this.#db, this.#name)
    const mark = await this.#readMark(call)
    if (mark === 'unreadable') {
      throw this.#refuse('its identity cannot be read')
    } else if (mark === undefined && !known?.isMarked) {
      await this.#useFirst(known, call)
    } else if (mark === undefined) {
      throw this.#refuse('it has no identity where this database knows one; it may not be mounted')
    } else if (known === undefined || known.identity === null) {
      throw this.#refuse('it belongs to another database, or to this one before that was lost')
    } else if (mark.volume !== known.identity) {
      throw this.#refuse(`it is ${mark.volume}, and this database knows ${known.identity}`)
    } else if (mark.database !== (await rows.databaseIdentity(this.#db))) {
      throw this.#refuse('another database uses it now')
    } else if (!(await rows.hasEpoch(this.#db, this.#name, mark.epoch))) {
      throw this.#refuse('it was used after this copy of the database was made')
    } else if (!known.isMarked) {
      // Whoever wrote the mark died before it could say so.
      await rows.remember(this.#db, this.#name, mark.volume)
    }
  }

  /** The database comes first, so that several processes, or one after a crash, use the volume by one identity. */
  async #useFirst(known: rows.Known | undefined, call: Call): Promise<void> {
    const hasFolders = await this.#hasFolders(call)
    // A database from before volumes had identities has used it.
    const isOld = known?.identity === null
    if (isOld && !hasFolders) throw this.#refuse('it is empty; it may not be mounted')
    if (!isOld && hasFolders) throw this.#refuse('it has vfolders, and this database has never used it')
    await this.#mark(await rows.introduce(this.#db, this.#name, randomUUID()), call)
  }

  /** Takes what is there for the volume from now on, on purpose. @throws {VolumeUnavailable} when `found` is not there */
  async accept(found: string | null, call: Call): Promise<void> {
    const there = await this.#findVolume(call)
    if (there !== found) {
      throw new VolumeUnavailable(`the storage has ${there ?? 'no identity'} now, not ${found ?? 'none'}`)
    }
    await this.#mark(found ?? randomUUID(), call)
    this.#isAdmitted = true
  }

  /** What the database expects, and what is there. */
  async describe(call: Call): Promise<{ expected: string | null; found: string | null }> {
    const known = await rows.find(this.#db, this.#name)
    return { expected: known?.identity ?? null, found: await this.#findVolume(call) }
  }

  /** Lets a copy of the database that is made until now be told from the database. */
  async renew(call: Call): Promise<void> {
    if (!this.#isAdmitted || this.#backend.writeIdentity === undefined) return
    await this.look()
    const known = await rows.find(this.#db, this.#name)
    if (known?.identity) await this.#mark(known.identity, call)
  }

  async #mark(volume: string, call: Call): Promise<void> {
    const epoch = randomUUID()
    await rows.addEpoch(this.#db, this.#name, epoch, this.#db.now())
    const mark: Mark = { volume, database: await rows.databaseIdentity(this.#db), epoch }
    await this.#backend.writeIdentity?.(`${JSON.stringify(mark)}\n`, call)
    await rows.remember(this.#db, this.#name, volume)
    await rows.forgetEpochsBefore(this.#db, this.#name, epoch)
  }

  /** The identity that the storage has; null also where what it has cannot be read. */
  async #findVolume(call: Call): Promise<string | null> {
    const mark = await this.#readMark(call)
    return mark === undefined || mark === 'unreadable' ? null : mark.volume
  }

  async #readMark(call: Call): Promise<Mark | 'unreadable' | undefined> {
    const text = await this.#backend.readIdentity?.(call).catch(async (error: unknown) => {
      if (!(error instanceof BackendError) || error instanceof Unavailable) throw error
      // A storage that is not well at all says so better itself.
      await this.#backend.health(call)
      return ''
    })
    if (text === undefined) return undefined
    try {
      const mark: unknown = JSON.parse(text)
      return isMark.Check(mark) ? mark : 'unreadable'
    } catch {
      return 'unreadable'
    }
  }

  async #hasFolders(call: Call): Promise<boolean> {
    const { listFolders } = this.#backend
    if (listFolders === undefined) return false
    for await (const _ of listFolders.call(this.#backend, call)) return true
    return false
  }

  #refuse(why: string): VolumeUnavailable {
    const how = `To accept it on purpose, see POST /volumes/${this.#name}/accept`
    return new VolumeUnavailable(`what is in the place of volume ${this.#name} is not known: ${why}. ${how}.`)
  }
}
