import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { add, difference, nothing } from '../../../backends/amount.ts'
import type { Amount, Entry, OnProgress } from '../../../backends/backend.ts'
import type { Capable } from '../../../backends/capabilities.ts'
import { NotEmpty, Unconfirmed } from '../../../backends/errors.ts'
import { type EntryPath, parsePath } from '../../../backends/path.ts'
import { currentRequestId, newRequestId } from '../../../lib/context.ts'
import { toProblem, withMembers } from '../../../lib/problems.ts'
import { transact } from '../../storage/database/transact.ts'
import type { Facts } from '../../work/audit/facts.ts'
import { mayBePartial, type OpenVfolder } from '../files.ts'
import { isMissing } from '../find-entry.ts'
import { filesDeleted } from '../told.ts'
import { amountInTrash } from './amount.ts'
import { asCalled, requireTrash } from './places.ts'
import { abandon, forget, insert, keep, type TrashRow } from './rows.ts'

/** How many entries have their rows written in one transaction. */
const atOnce = 100

export interface PutOptions {
  recursive: boolean
  signal: AbortSignal
  /** Called with how much is in the trash so far. */
  onProgress?: OnProgress
}

interface Leaving {
  row: TrashRow
  path: EntryPath
  entry: Entry
}

interface Kept {
  row: TrashRow
  amount: Amount
}

/** What was put into the trash, and what was not there. */
export interface Put {
  deleted: string[]
  missing: string[]
}

/** Entries of one vfolder on their way into its trash. */
class Putting {
  readonly result: Put = { deleted: [], missing: [] }
  readonly #app: FastifyInstance
  readonly #vfolder: OpenVfolder
  readonly #backend: Capable<'trash'>
  readonly #place: string
  readonly #options: PutOptions
  readonly #arrived = { ...nothing }

  constructor(app: FastifyInstance, vfolder: OpenVfolder, options: PutOptions) {
    this.#app = app
    this.#vfolder = vfolder
    this.#backend = requireTrash(vfolder.volume)
    this.#place = this.#backend.trash(vfolder.id)
    this.#options = options
  }

  async putAll(paths: EntryPath[]): Promise<void> {
    await this.#backend.createFolder(this.#place, this.#options)
    for (let start = 0; start < paths.length; start += atOnce) {
      const { found, error } = await this.#findAll(paths.slice(start, start + atOnce))
      if (found.length > 0) await this.#putFound(found)
      if (error !== undefined) throw error.cause
    }
  }

  /** Up to the first that cannot be deleted. */
  async #findAll(paths: EntryPath[]): Promise<{ found: Leaving[]; error?: { cause: unknown } }> {
    const found: Leaving[] = []
    try {
      for (const path of paths) {
        const entry = await this.#find(path)
        if (entry === undefined) this.result.missing.push(path)
        else found.push({ path, entry, row: await this.#newRow(path, entry) })
      }
      return { found }
    } catch (cause) {
      return { found, error: { cause } }
    }
  }

  async #find(path: EntryPath): Promise<Entry | undefined> {
    return this.#backend.stat(this.#vfolder.id, path, { signal: this.#options.signal }).catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw error
    })
  }

  async #newRow(path: EntryPath, { type }: Entry): Promise<TrashRow> {
    const { id: vfolder } = this.#vfolder
    if (type === 'directory' && !this.#options.recursive) {
      for await (const _ of this.#backend.list(vfolder, { path, signal: this.#options.signal })) {
        throw new NotEmpty(`${path} is not empty`)
      }
    }
    const { config, database, processes } = this.#app
    const now = database.now()
    return {
      id: randomUUID(),
      vfolder,
      path,
      target: null,
      type,
      ...nothing,
      counts: config.trashCountsTowardsQuota ? 1 : 0,
      state: 'leaving',
      process: processes.id,
      request_id: currentRequestId() ?? newRequestId(),
      deleted_at: now,
      changed_at: now,
    }
  }

  /** The rows first: what is in the trash without one, nobody could restore. */
  async #putFound(found: Leaving[]): Promise<void> {
    const reservation = await this.#vfolder.reserve(nothing)
    const left = { ...nothing }
    const rest = new Set(found.map(({ row }) => row))
    const kept: Kept[] = []
    try {
      await transact(this.#app.database, (trx) => insert(trx, [...rest]))
      for (const leaving of found) {
        const { row } = leaving
        this.#options.signal.throwIfAborted()
        rest.delete(row)
        const amount = await this.#putOne(leaving)
        if (amount === undefined) continue
        kept.push({ row, amount })
        add(this.#arrived, amount)
        this.#options.onProgress?.({ ...this.#arrived })
        if (row.counts === 0) add(left, amount)
      }
    } finally {
      try {
        await this.#writeDown(kept, [...rest])
      } finally {
        const gone = kept.map(({ row }) => row.path)
        await reservation.end(difference(nothing, left), filesDeleted(this.#vfolder.id, gone, true))
      }
    }
  }

  /** A power cut may take it back: where the entries are tells it, too. */
  async #writeDown(kept: Kept[], rest: TrashRow[]): Promise<void> {
    const { database } = this.#app
    await database.writeLater(() =>
      transact(database.unflushed, async (trx) => {
        for (const { row, amount } of kept) await keep(trx, row, amount, database.now())
        for (const { id } of rest) await forget(trx, id)
        if (kept.length > 0) this.#app.audit.writeRows(trx, this.#vfolder.audited(factsOf(kept)))
      }),
    )
  }

  /** @returns how much went; undefined when it was not there any more */
  async #putOne({ row, path, entry }: Leaving): Promise<Amount | undefined> {
    const { signal } = this.#options
    const { database, processes } = this.#app
    const name = parsePath(row.id)
    try {
      await this.#backend.move(this.#vfolder.id, path, name, { toFolder: this.#place, signal })
    } catch (error) {
      if (error instanceof Unconfirmed) this.result.deleted.push(path)
      const isUnknown = error instanceof Unconfirmed || mayBePartial(error)
      await database.writeLater(async () => {
        if (isUnknown) await abandon(database, row.id, processes.id)
        else await forget(database, row.id)
      })
      if (!isMissing(error)) throw asCalled(error, row)
      this.result.missing.push(path)
      return undefined
    }
    this.result.deleted.push(path)
    return amountInTrash(this.#backend, row, entry, this.#app.log)
  }
}

function factsOf(kept: Kept[]): Facts {
  const bytes = kept.reduce((sum, { amount }) => sum + amount.bytes, 0)
  const [one] = kept
  const what = kept.length === 1 && one ? { path: one.row.path, subject: one.row.id } : { count: kept.length }
  return { action: 'entry.delete', bytes, ...what }
}

/**
 * Puts entries into the trash of their vfolder; a path that does not exist is no error. The first error ends it, and has
 * `deleted` and `missing` with what was done before.
 */
export async function putEntries(
  app: FastifyInstance,
  folder: string,
  paths: EntryPath[],
  options: PutOptions,
): Promise<Put> {
  const putting = new Putting(app, await app.vfolders.open(folder), options)
  await putting.putAll(paths).catch((error) => {
    throw withMembers(toProblem(error), { ...putting.result })
  })
  app.log.info({ folder, entries: putting.result.deleted.length }, 'entries put into the trash')
  return putting.result
}
