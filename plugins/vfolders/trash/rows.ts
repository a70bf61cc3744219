import { type Expression, type Selectable, sql } from 'kysely'
import { nothing } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import type { Database, Tables } from '../../storage/database/tables.ts'

export type TrashRow = Selectable<Tables['trashed_entries']>

/** Those that can be restored, or are about to be emptied. */
const held = ['kept', 'emptying'] as const

export async function insert(trx: Database, rows: TrashRow[]): Promise<void> {
  await trx.insertInto('trashed_entries').values(rows).execute()
}

/** The entry is there: from now on it can be restored. @returns whether nobody has settled it meanwhile */
export async function keep(
  trx: Database,
  { id, state }: Pick<TrashRow, 'id' | 'state'>,
  amount: Amount,
  now: number,
): Promise<boolean> {
  const { numUpdatedRows } = await trx
    .updateTable('trashed_entries')
    .set({ state: 'kept', process: null, changed_at: now, files: amount.files, bytes: amount.bytes })
    .where('id', '=', id)
    .where('state', '=', state)
    .executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

/** Lets whoever cleans up find out what has become of it. */
export async function abandon(on: Database, id: string, process: string): Promise<void> {
  await on
    .updateTable('trashed_entries')
    .set({ process: null })
    .where('id', '=', id)
    .where('process', '=', process)
    .execute()
}

export async function forget(trx: Database, id: string): Promise<TrashRow | undefined> {
  return trx.deleteFrom('trashed_entries').where('id', '=', id).returningAll().executeTakeFirst()
}

/** Of a vfolder that is gone. */
export async function forgetAll(trx: Database, vfolder: string): Promise<void> {
  await trx.deleteFrom('trashed_entries').where('vfolder', '=', vfolder).execute()
}

type Taking = Pick<TrashRow, 'vfolder' | 'id'> & { process: string; now: number }

/** Takes an entry to restore it, of two at once one; without a target to where it was. */
export async function beginReturn(
  on: Database,
  taking: Taking,
  target: string | undefined,
): Promise<TrashRow | undefined> {
  return take(on, taking)
    .set((eb) => ({ state: 'returning', target: target ?? eb.ref('path') }))
    .where('state', '=', 'kept')
    .returningAll()
    .executeTakeFirst()
}

/** Takes one that a process had begun to restore, and does not any more. */
export async function takeOver(on: Database, taking: Taking, alive: Expression<string>): Promise<TrashRow | undefined> {
  return take(on, taking)
    .where('state', '=', 'returning')
    .where((eb) => eb.or([eb('process', 'is', null), eb('process', 'not in', alive)]))
    .returningAll()
    .executeTakeFirst()
}

function take(on: Database, { vfolder, id, process, now }: Taking) {
  return on
    .updateTable('trashed_entries')
    .set({ process, changed_at: now })
    .where('id', '=', id)
    .where('vfolder', '=', vfolder)
}

/** Notes another name, before the entry gets it. */
export async function changeTarget(on: Database, id: string, target: string): Promise<void> {
  await on.updateTable('trashed_entries').set({ target }).where('id', '=', id).execute()
}

/** Takes an entry to remove it for good. @returns whether it is to be had */
export async function beginEmptying(
  on: Database,
  { vfolder, id }: Pick<TrashRow, 'vfolder' | 'id'>,
  now: number,
): Promise<boolean> {
  const { numUpdatedRows } = await on
    .updateTable('trashed_entries')
    .set({ state: 'emptying', changed_at: now })
    .where('id', '=', id)
    .where('vfolder', '=', vfolder)
    .where('state', 'in', held)
    .executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

export async function find(on: Database, vfolder: string, id: string): Promise<TrashRow | undefined> {
  return on
    .selectFrom('trashed_entries')
    .selectAll()
    .where('vfolder', '=', vfolder)
    .where('id', '=', id)
    .where('state', '!=', 'leaving')
    .executeTakeFirst()
}

export interface Position {
  deletedAt: number
  id: string
}

/** Those that can be restored, the latest first, before a position. */
export async function list(
  on: Database,
  vfolder: string,
  { limit, before }: { limit: number; before?: Position | undefined },
): Promise<TrashRow[]> {
  let query = on.selectFrom('trashed_entries').selectAll().where('vfolder', '=', vfolder).where('state', '=', 'kept')
  if (before !== undefined) {
    const { deletedAt, id } = before
    query = query.where((eb) =>
      eb.or([eb('deleted_at', '<', deletedAt), eb.and([eb('deleted_at', '=', deletedAt), eb('id', '<', id)])]),
    )
  }
  return query.orderBy('deleted_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
}

/** Those of a vfolder that were deleted by `time`, and what somebody has begun to remove, except `but`. */
export async function listDue(
  on: Database,
  vfolder: string,
  { time, but, limit }: { time: number; but: string[]; limit: number },
): Promise<TrashRow[]> {
  return on
    .selectFrom('trashed_entries')
    .selectAll()
    .where('vfolder', '=', vfolder)
    .where('state', 'in', held)
    .$if(but.length > 0, (query) => query.where('id', 'not in', but))
    .where((eb) => eb.or([eb('deleted_at', '<=', time), eb('state', '=', 'emptying')]))
    .orderBy('deleted_at')
    .limit(limit)
    .execute()
}

/** The vfolders that have some of those, except those in `but`. */
export async function listDueFolders(on: Database, time: number, but: Expression<string>): Promise<string[]> {
  const due = on
    .selectFrom('trashed_entries')
    .select('vfolder')
    .distinct()
    .where('vfolder', 'not in', but)
    .where((eb) =>
      eb.or([eb.and([eb('state', '=', 'kept'), eb('deleted_at', '<=', time)]), eb('state', '=', 'emptying')]),
    )
  return (await due.execute()).map(({ vfolder }) => vfolder)
}

/** Those that nobody moves any more and that are not where they belong. */
export async function listAbandoned(on: Database, alive: Expression<string>): Promise<TrashRow[]> {
  return on
    .selectFrom('trashed_entries')
    .selectAll()
    .where('state', 'in', ['leaving', 'returning'])
    .where((eb) => eb.or([eb('process', 'is', null), eb('process', 'not in', alive)]))
    .execute()
}

/** How much of what is in the trash of a vfolder is in its usage. */
export async function countedTrash(on: Database, vfolder: string): Promise<Amount> {
  const total = (column: 'files' | 'bytes') => sql<number>`cast(coalesce(sum(${sql.ref(column)}), 0) as bigint)`
  const sums = await on
    .selectFrom('trashed_entries')
    .select([total('files').as('files'), total('bytes').as('bytes')])
    .where('vfolder', '=', vfolder)
    .where('counts', '=', 1)
    .executeTakeFirst()
  return sums ?? nothing
}
