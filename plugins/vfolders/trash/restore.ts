import type { FastifyInstance } from 'fastify'
import { nothing } from '../../../backends/amount.ts'
import type { Entry } from '../../../backends/backend.ts'
import type { Capable } from '../../../backends/capabilities.ts'
import { AlreadyExists, IsADirectory } from '../../../backends/errors.ts'
import { type EntryPath, parsePath } from '../../../backends/path.ts'
import { Problem } from '../../../lib/problems.ts'
import { transact } from '../../storage/database/transact.ts'
import type { NewEvent } from '../../work/events/event.ts'
import { mayBePartial } from '../files.ts'
import { fileRestored } from '../told.ts'
import { asCalled, finishReturn, requireTrash, restoredName } from './places.ts'
import { putEntries } from './put.ts'
import { abandon, beginReturn, changeTarget, find, forget, keep, type TrashRow, takeOver } from './rows.ts'

/** What becomes of an entry whose name was taken meanwhile. */
export const conflictRules = ['fail', 'rename', 'replace'] as const
export type ConflictRule = (typeof conflictRules)[number]

/** How many names are tried, or entries replaced, before it fails. */
const attempts = 100

export interface RestoreOptions {
  /** Absent: where it was. */
  to?: EntryPath | undefined
  onConflict: ConflictRule
  signal: AbortSignal
}

/**
 * Moves an entry out of the trash. The row goes last: a crash before that leaves it to the same call, or to whoever
 * cleans up, which then finish what was begun.
 * @throws {Problem} `trashed_entry_not_found`, `trashed_entry_busy`, `quota_exceeded`
 * @throws {Problem} `entry_exists` with the rule `fail`
 */
export async function restoreEntry(
  app: FastifyInstance,
  folder: string,
  id: string,
  { to, onConflict, signal }: RestoreOptions,
): Promise<Entry> {
  const { database, processes } = app
  const vfolder = await app.vfolders.open(folder)
  const backend = requireTrash(vfolder.volume)
  const taking = { vfolder: folder, id, process: processes.id, now: database.now() }
  const fresh = await beginReturn(database, taking, to)
  const row = fresh ?? (await takeOver(database, taking, processes.alive()))
  if (row === undefined) throw await whyNot(app, folder, id)
  const amount = row.counts === 1 ? nothing : { files: row.files, bytes: row.bytes }
  try {
    const reservation = await vfolder.reserve(amount)
    let returned = nothing
    const events: NewEvent[] = []
    try {
      const path = await (fresh === undefined
        ? finishReturn(backend, row, signal)
        : moveBack(app, backend, row, onConflict, signal))
      await transact(database, async (trx) => {
        await forget(trx, id)
        // A count meanwhile has seen it twice: where it is, and in its row.
        if (fresh === undefined) await app.vfolders.recount(folder, trx)
        const { bytes, request_id: origin } = row
        app.audit.writeRows(trx, vfolder.audited({ action: 'entry.restore', path, bytes, subject: id, origin }))
      })
      returned = amount
      events.push(fileRestored(folder, path, row.path))
      app.log.info({ folder, path, origin_request_id: row.request_id }, 'entry restored')
      return await backend.stat(folder, path, { signal })
    } finally {
      await reservation.end(returned, events)
    }
  } catch (error) {
    await endAttempt(app, row, error)
    throw asCalled(error, row)
  }
}

async function whyNot({ database }: FastifyInstance, folder: string, id: string): Promise<Problem> {
  const row = await find(database, folder, id)
  if (row === undefined) return new Problem('trashed_entry_not_found', `There is no entry ${id} in the trash.`)
  const what = row.state === 'emptying' ? 'removed for good' : 'restored'
  return new Problem('trashed_entry_busy', `The entry ${row.path} is being ${what}.`)
}

/** After a refusal the entry is in the trash as before; after any other failure, nobody knows where it is. */
async function endAttempt({ database, processes }: FastifyInstance, row: TrashRow, error: unknown): Promise<void> {
  const isRefused = error instanceof Problem || !mayBePartial(error)
  await database.writeLater(async () => {
    if (isRefused) await keep(database, row, row, database.now())
    else await abandon(database, row.id, processes.id)
  })
}

/** @returns where it is now */
async function moveBack(
  app: FastifyInstance,
  backend: Capable<'trash'>,
  { id, vfolder: folder, target, path: origin }: TrashRow,
  onConflict: ConflictRule,
  signal: AbortSignal,
): Promise<EntryPath> {
  const wanted = parsePath(target ?? origin)
  for (let attempt = 0; ; attempt++) {
    const path = attempt > 0 && onConflict === 'rename' ? restoredName(wanted, attempt) : wanted
    if (path !== wanted) await changeTarget(app.database, id, path)
    try {
      await backend.move(backend.trash(folder), parsePath(id), path, { toFolder: folder, signal })
      return path
    } catch (error) {
      const isTaken = error instanceof AlreadyExists || error instanceof IsADirectory
      if (!isTaken || onConflict === 'fail' || attempt === attempts) throw error
      // What has the name now can be restored in its turn.
      if (onConflict === 'replace') await putEntries(app, folder, [path], { recursive: true, signal })
    }
  }
}
