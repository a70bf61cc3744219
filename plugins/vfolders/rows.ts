import { type Expression, type Insertable, type Selectable, type SqlBool, sql } from 'kysely'
import { difference, isNothing, nothing } from '../../backends/amount.ts'
import type { Amount } from '../../backends/backend.ts'
import { invalid, Problem } from '../../lib/problems.ts'
import type { Database, Tables } from '../storage/database/tables.ts'
import type { Volume } from '../storage/volumes.ts'

type Row = Selectable<Tables['vfolders']>

export const units = ['bytes', 'files'] as const

/** Nothing is stored in a vfolder that is in one of these states. */
const deleted = ['trashed', 'deleting'] as const

/** Limits; null is none. */
export interface Quota {
  bytes: number | null
  files: number | null
}

export interface Vfolder {
  id: string
  volume: string
  state: Row['state']
  quota: Quota
  quotaScope: string | null
  usage: { bytes: number; files: number; syncedAt: string | null }
  metadata: Record<string, unknown>
  createdAt: string
  /** When it was put into the trash, where it is. */
  trashedAt?: string
}

export interface NewVfolder extends Pick<Vfolder, 'id' | 'quota' | 'quotaScope' | 'metadata'> {
  volume: Volume
  /** Of its directory; absent: that of the volume's options. */
  mode?: number | undefined
}

export function vfolderNotFound(id: string): Problem {
  return new Problem('vfolder_not_found', `There is no vfolder ${id}.`)
}

export function vfolderTrashed(id: string): Problem {
  return new Problem('vfolder_trashed', `The vfolder ${id} is in the trash. See POST /folders/${id}/restore.`)
}

export async function find(on: Database, id: string): Promise<Vfolder | undefined> {
  const row = await on.selectFrom('vfolders').selectAll().where('id', '=', id).executeTakeFirst()
  return row && toVfolder(row)
}

/** The quota scope of a vfolder; undefined when there is no such vfolder. */
export async function findScope(on: Database, id: string): Promise<string | null | undefined> {
  return (await on.selectFrom('vfolders').select('quota_scope').where('id', '=', id).executeTakeFirst())?.quota_scope
}

/** Which of these IDs have a row, whatever its state. */
export async function findKnown(on: Database, ids: string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set()
  const found = await on.selectFrom('vfolders').select('id').where('id', 'in', ids).execute()
  return new Set(found.map(({ id }) => id))
}

/** Takes back what `create` began. @returns whether nobody has finished it meanwhile */
export async function undoCreation(on: Database, id: string): Promise<boolean> {
  const { numDeletedRows } = await on
    .deleteFrom('vfolders')
    .where('id', '=', id)
    .where('state', '=', 'creating')
    .executeTakeFirstOrThrow()
  return numDeletedRows > 0n
}

export interface ListOptions {
  limit: number
  after?: string
  volume?: string
  /** Absent: those that are not deleted. */
  state?: Row['state']
}

/** By ID, after the given one. */
export async function list(on: Database, { limit, after, volume, state }: ListOptions): Promise<Vfolder[]> {
  const all = on.selectFrom('vfolders').selectAll()
  let query = state === undefined ? all.where('state', 'not in', deleted) : all.where('state', '=', state)
  if (after !== undefined) query = query.where('id', '>', after)
  if (volume !== undefined) query = query.where('volume', '=', volume)
  return (await query.orderBy('id').limit(limit).execute()).map(toVfolder)
}

/** The names of the volumes that have vfolders. */
export async function listVolumes(on: Database): Promise<string[]> {
  const rows = await on.selectFrom('vfolders').select('volume').distinct().where('state', '!=', 'deleting').execute()
  return rows.map(({ volume }) => volume)
}

/** The IDs of all, as a subquery. */
export function selectIds(on: Database): Expression<string> {
  return on.selectFrom('vfolders').select('vfolders.id').$asScalar()
}

/**
 * @param now by the clock of the database
 * @returns whether there was none of that ID
 */
export async function create(
  on: Database,
  vfolder: NewVfolder,
  now: number,
  state: Row['state'] = 'creating',
): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await on
    .insertInto('vfolders')
    .values({ ...toRow(vfolder), state, created_at: new Date(now).toISOString() })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

/** @returns whether it was not finished before */
export async function finishCreation(on: Database, id: string): Promise<boolean> {
  const { numUpdatedRows } = await on
    .updateTable('vfolders')
    .set({ state: 'ready' })
    .where('id', '=', id)
    .where('state', '=', 'creating')
    .executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

/** @returns its volume, if there is such a vfolder */
export async function change(
  on: Database,
  id: string,
  { quota, metadata }: { quota?: Partial<Quota>; metadata?: Record<string, unknown> },
): Promise<string | undefined> {
  const set = {
    ...(quota?.bytes !== undefined && { quota_bytes: quota.bytes }),
    ...(quota?.files !== undefined && { quota_files: quota.files }),
    ...(metadata !== undefined && { metadata: asText(metadata) }),
  }
  const changed =
    Object.keys(set).length > 0
      ? on.updateTable('vfolders').set(set).where('id', '=', id).returning('volume')
      : on.selectFrom('vfolders').select('volume').where('id', '=', id)
  return (await changed.executeTakeFirst())?.volume
}

/** The job that a clone, or an adoption, begins with. */
export async function rememberMaker(trx: Database, id: string, job: string): Promise<void> {
  await trx.updateTable('vfolders').set({ clone_job: job }).where('id', '=', id).execute()
}

/** The job that made the vfolder, if one did. */
export async function findMaker(on: Database, id: string): Promise<string | undefined> {
  const row = await on.selectFrom('vfolders').select('clone_job').where('id', '=', id).executeTakeFirst()
  return row?.clone_job ?? undefined
}

/** Lets everybody use a clone that is whole; the room set aside for it becomes its usage. */
export async function finishClone(trx: Database, id: string, usage: Amount): Promise<void> {
  await trx
    .updateTable('vfolders')
    .set({
      state: 'ready',
      ...usageColumns(usage),
      usage_synced_at: new Date().toISOString(),
      reserved_files: 0,
      reserved_bytes: 0,
    })
    .where('id', '=', id)
    .where('state', '=', 'cloning')
    .execute()
}

/** Which vfolders are deleted. */
export interface DeletedFrom {
  state: Row['state']
  /** Those that are in the trash since then. */
  trashedBefore?: number
}

/**
 * Makes a vfolder vanish, from any state or only `from` one.
 * @returns where it was, if there is such a vfolder
 */
export async function beginDeletion(
  trx: Database,
  id: string,
  from?: DeletedFrom,
): Promise<Pick<Vfolder, 'volume' | 'quotaScope'> | undefined> {
  let update = trx.updateTable('vfolders').set({ state: 'deleting' }).where('id', '=', id)
  if (from !== undefined) update = update.where('state', '=', from.state)
  if (from?.trashedBefore !== undefined) update = update.where('trashed_at', '<=', from.trashedBefore)
  return update.returning(['volume', 'quota_scope as quotaScope']).executeTakeFirst()
}

/** Puts a vfolder into the trash, if it is ready. @returns its volume; undefined when it is not ready */
export async function putIntoTrash(
  trx: Database,
  id: string,
  { now, requestId, counts }: { now: number; requestId: string; counts: boolean },
): Promise<string | undefined> {
  const row = await trx
    .updateTable('vfolders')
    .set({ state: 'trashed', trashed_at: now, trashed_by: requestId, trash_counts: counts ? 1 : 0 })
    .where('id', '=', id)
    .where('state', '=', 'ready')
    .returning('volume')
    .executeTakeFirst()
  return row?.volume
}

/** Takes a vfolder out of the trash. @returns its volume, and whether it counted there; undefined when it was not there */
export async function takeOutOfTrash(
  trx: Database,
  id: string,
): Promise<{ volume: string; counted: boolean } | undefined> {
  const row = await trx
    .updateTable('vfolders')
    .set({ state: 'ready', trashed_at: null, trashed_by: null })
    .where('id', '=', id)
    .where('state', '=', 'trashed')
    .returning(['volume', 'trash_counts'])
    .executeTakeFirst()
  return row && { volume: row.volume, counted: row.trash_counts === 1 }
}

/** The vfolders on one of these volumes that are in the trash since `time` or longer, and the requests that put them there. */
export async function listTrashed(on: Database, volumes: string[], time: number) {
  return on
    .selectFrom('vfolders')
    .select(['id', 'trashed_by as requestId'])
    .where('volume', 'in', volumes)
    .where('trashed_at', '<=', time)
    .where('state', '=', 'trashed')
    .execute()
}

/** The vfolders in deletion on one of these volumes, except those in `but`. */
export async function listDeleting(on: Database, volumes: string[], but: Expression<string>[]): Promise<string[]> {
  const rows = await on
    .selectFrom('vfolders')
    .select('id')
    .where('state', '=', 'deleting')
    .where('volume', 'in', volumes)
    .where((eb) => eb.and(but.map((ids) => eb('id', 'not in', ids))))
    .execute()
  return rows.map(({ id }) => id)
}

/** The vfolders on one of these volumes that were to be made, and are not, since before `time`. */
export async function listCreating(on: Database, volumes: string[], time: Date): Promise<string[]> {
  const rows = await on
    .selectFrom('vfolders')
    .select('id')
    .where('state', '=', 'creating')
    .where('volume', 'in', volumes)
    .where('created_at', '<', time.toISOString())
    .execute()
  return rows.map(({ id }) => id)
}

/** Forgets a vfolder in deletion. @returns whether it was there */
export async function forget(trx: Database, id: string): Promise<boolean> {
  const { numDeletedRows } = await trx
    .deleteFrom('vfolders')
    .where('id', '=', id)
    .where('state', '=', 'deleting')
    .executeTakeFirstOrThrow()
  return numDeletedRows > 0n
}

/** What a vfolder has, may have, and has set aside. */
export interface Counters {
  state: Row['state']
  quota: Quota
  quotaScope: string | null
  usage: Amount
  reserved: Amount
  /** Counts the changes of the usage, also those that may be about to happen. */
  revision: number
  /** Tells it from an earlier one of that ID. */
  createdAt: string
}

type CounterColumn = 'usage_bytes' | 'usage_files' | 'reserved_bytes' | 'reserved_files'

/** The most that a counter holds, and what it may be together with what is reserved: a driver reads no larger integer. */
export const mostCounted = Number.MAX_SAFE_INTEGER

/** Until a change is refused, a counter may be too large for an integer that the driver reads. */
export function asDouble(column: CounterColumn) {
  return sql<number>`cast(${sql.ref(column)} as double precision)`
}

const counterColumns = [
  'state',
  'quota_bytes',
  'quota_files',
  'quota_scope',
  'usage_bytes',
  'usage_files',
  'revision',
  'created_at',
  asDouble('reserved_bytes').as('reserved_bytes'),
  asDouble('reserved_files').as('reserved_files'),
] as const

/** With `lock` nobody else changes them before `on` ends. */
export async function findCounters(on: Database, id: string, lock = false): Promise<Counters | undefined> {
  const query = on.selectFrom('vfolders').select(counterColumns).where('id', '=', id)
  const row = await (lock ? query.forUpdate() : query).executeTakeFirst()
  return row && toCounters(row)
}

/**
 * Sets room aside without checking that there is enough, and counts what `changed`. @returns the counters after it,
 * unless the vfolder vanishes
 */
export async function reserve(
  trx: Database,
  id: string,
  by: Amount,
  changed: Amount = nothing,
): Promise<Counters | undefined> {
  const update = changeCounters(trx, id, by, changed).where('state', 'not in', deleted)
  const row = await update.returning(counterColumns).executeTakeFirst()
  return row && toCounters(row)
}

/**
 * Sets room aside where there is enough, and counts what `changed`: a statement that changes nothing where there is not,
 * or when the vfolder is not the one that was created then any more. In the words of SQLite.
 * @param within the scope has room for so much more
 */
export function reserveWithin(
  on: Database,
  { id, createdAt }: Pick<Vfolder, 'id' | 'createdAt'>,
  { by, wanted, changed }: { by: Amount; wanted: Amount; changed: Amount },
  within: (unit: keyof Amount, growth: number) => Expression<SqlBool>,
) {
  let update = changeCounters(on, id, by, changed).where('state', 'not in', deleted).where('created_at', '=', createdAt)
  for (const unit of units) {
    if (wanted[unit] <= 0) continue
    const limit = sql<number>`coalesce(${sql.ref(`quota_${unit}`)}, ${mostCounted})`
    update = update.where(staysWithin(limit, unit, by, changed)).where(within(unit, by[unit] + changed[unit]))
  }
  return update
}

/** The same where no limit can refuse it: a statement that changes nothing where there is one. */
export function reserveUnlimited(
  on: Database,
  { id, createdAt }: Pick<Vfolder, 'id' | 'createdAt'>,
  { by, changed }: { by: Amount; changed: Amount },
) {
  const update = changeCounters(on, id, by, changed)
    .where('state', 'not in', deleted)
    .where('created_at', '=', createdAt)
    .where('quota_bytes', 'is', null)
    .where('quota_files', 'is', null)
    .where('quota_scope', 'is', null)
  const growing = units.filter((unit) => by[unit] > 0)
  return growing.reduce((all, unit) => all.where(staysWithin(sql.lit(mostCounted), unit, by, changed)), update)
}

/** A condition: what is used and what is reserved, each after its change, stay within the limit together. */
function staysWithin(limit: Expression<number>, unit: keyof Amount, by: Amount, changed: Amount): Expression<SqlBool> {
  const usage = sql<number>`max(0, ${sql.ref(`usage_${unit}`)} + ${changed[unit]})`
  return sql<SqlBool>`${usage} + ${sql.ref(`reserved_${unit}`)} + ${by[unit]} <= ${limit}`
}

export async function giveBack(trx: Database, id: string, amount: Amount): Promise<void> {
  await changeCounters(trx, id, difference(nothing, amount), nothing).execute()
}

export async function count(trx: Database, id: string, by: Amount): Promise<void> {
  await changeCounters(trx, id, nothing, by).execute()
}

/**
 * The one place where amounts are added. The usage follows what this service does; it never goes below nothing when others
 * have removed files, nor above what can be counted, as sparse files would.
 */
function changeCounters(trx: Database, id: string, reserved: Amount, usage: Amount) {
  const sum = (column: 'usage_bytes' | 'usage_files', change: number) => {
    const changed = sql<number>`${sql.ref(column)} + ${change}`
    const most = sql.lit(mostCounted)
    return sql<number>`case when ${changed} < 0 then 0 when ${changed} > ${most} then ${most} else ${changed} end`
  }
  return trx
    .updateTable('vfolders')
    .set((eb) => ({
      ...(!isNothing(usage) && {
        usage_bytes: sum('usage_bytes', usage.bytes),
        usage_files: sum('usage_files', usage.files),
      }),
      ...(!isNothing(reserved) && {
        reserved_bytes: eb('reserved_bytes', '+', reserved.bytes),
        reserved_files: eb('reserved_files', '+', reserved.files),
      }),
      revision: eb('revision', '+', 1),
    }))
    .where('id', '=', id)
}

/** Takes over the count of the storage; with a `revision` only if that is current. @returns whether it did */
export async function setUsage(on: Database, id: string, usage: Amount, revision?: number): Promise<boolean> {
  let update = on
    .updateTable('vfolders')
    .set({ ...usageColumns(usage), usage_synced_at: new Date().toISOString() })
    .where('id', '=', id)
  if (revision !== undefined) update = update.where('revision', '=', revision)
  const { numUpdatedRows } = await update.executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

function usageColumns({ files, bytes }: Amount) {
  return { usage_files: Math.min(files, mostCounted), usage_bytes: Math.min(bytes, mostCounted) }
}

type Uncounted = 'id' | 'volume' | 'usage_synced_at' | 'metadata' | 'clone_job' | `trash${string}`

function toCounters(row: Omit<Row, Uncounted>): Counters {
  return {
    state: row.state,
    quota: { bytes: row.quota_bytes, files: row.quota_files },
    quotaScope: row.quota_scope,
    usage: { bytes: row.usage_bytes, files: row.usage_files },
    reserved: { bytes: row.reserved_bytes, files: row.reserved_files },
    revision: row.revision,
    createdAt: row.created_at,
  }
}

function toRow({
  id,
  volume,
  quota,
  quotaScope,
  metadata,
}: NewVfolder): Omit<Insertable<Tables['vfolders']>, 'state' | 'created_at'> {
  return {
    id,
    volume: volume.name,
    quota_bytes: quota.bytes,
    quota_files: quota.files,
    quota_scope: quotaScope,
    usage_synced_at: null,
    metadata: asText(metadata),
  }
}

/** JSON that is nested deeper than the call stack can be read, but not written. */
function asText(metadata: Record<string, unknown>): string {
  try {
    return JSON.stringify(metadata)
  } catch {
    throw invalid('body', 'metadata', 'must not be nested that deeply')
  }
}

function toVfolder(row: Row): Vfolder {
  return {
    id: row.id,
    volume: row.volume,
    state: row.state,
    quota: { bytes: row.quota_bytes, files: row.quota_files },
    quotaScope: row.quota_scope,
    usage: { bytes: row.usage_bytes, files: row.usage_files, syncedAt: row.usage_synced_at },
    metadata: JSON.parse(row.metadata),
    createdAt: row.created_at,
    ...(row.trashed_at !== null && { trashedAt: new Date(row.trashed_at).toISOString() }),
  }
}
