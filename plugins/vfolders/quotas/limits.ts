import { sql } from 'kysely'
import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'

/** Limits; null is none. */
export interface Quota {
  bytes: number | null
  files: number | null
}

export const units = ['bytes', 'files'] as const

type CounterColumn = 'usage_bytes' | 'usage_files' | 'reserved_bytes' | 'reserved_files'

/** Where there is no limit, no more than a number can count. */
const maximumOf = (quota: Quota, unit: (typeof units)[number]): number => quota[unit] ?? Number.MAX_SAFE_INTEGER

/**
 * Sets room aside in a vfolder, and in its scope, or refuses; gives some back when `wanted` is negative. Adding first
 * and looking then takes the locks of both rows, in this order, before anything is decided; a refusal undoes it with the
 * transaction. The scope need not have room for what comes `from` another of its vfolders.
 * @returns when the vfolder was created, which tells it from an earlier one of that ID
 * @throws {Problem} `quota_exceeded` or `vfolder_not_found`
 */
export async function setAside(trx: Database, vfolder: string, wanted: Amount, from?: string): Promise<string> {
  const row = await trx
    .updateTable('vfolders')
    .set((eb) => ({
      reserved_bytes: eb('reserved_bytes', '+', wanted.bytes),
      reserved_files: eb('reserved_files', '+', wanted.files),
      revision: eb('revision', '+', 1),
    }))
    .where('id', '=', vfolder)
    .where('state', '!=', 'deleting')
    .returning(['usage_bytes', 'usage_files', 'quota_bytes', 'quota_files', 'quota_scope', 'created_at'])
    .returning([asDouble('reserved_bytes').as('reserved_bytes'), asDouble('reserved_files').as('reserved_files')])
    .executeTakeFirst()
  if (row === undefined) throw vfolderNotFound(vfolder)
  const usage = { bytes: row.usage_bytes, files: row.usage_files }
  const reserved = { bytes: row.reserved_bytes - wanted.bytes, files: row.reserved_files - wanted.files }
  const quota = { bytes: row.quota_bytes, files: row.quota_files }
  refuseOver({ limit: 'vfolder', name: vfolder, quota, usage, reserved, wanted })
  const { quota_scope: scope, created_at: createdAt } = row
  if (scope !== null && (await scopeOf(trx, from)) !== scope) await refuseOverScope(trx, scope, wanted)
  return createdAt
}

export function vfolderNotFound(vfolder: string): Problem {
  return new Problem('vfolder_not_found', `There is no vfolder ${vfolder}.`)
}

/** What may be too large for an integer that the driver reads, until it is refused. */
function asDouble(column: CounterColumn) {
  return sql<number>`cast(${sql.ref(column)} as double precision)`
}

async function scopeOf(trx: Database, vfolder: string | undefined): Promise<string | null | undefined> {
  if (vfolder === undefined) return undefined
  const row = await trx.selectFrom('vfolders').select('quota_scope').where('id', '=', vfolder).executeTakeFirst()
  return row?.quota_scope
}

/** @throws {Problem} `quota_exceeded` when the vfolders of a scope, with `wanted` reserved in one of them, are over it */
async function refuseOverScope(trx: Database, scope: string, wanted: Amount): Promise<void> {
  const limits = await trx
    .updateTable('quota_scopes')
    .set({ scope })
    .where('scope', '=', scope)
    .returningAll()
    .executeTakeFirst()
  if (limits === undefined) return
  const { usage, reserved } = await scopeUsage(trx, scope)
  reserved.bytes -= wanted.bytes
  reserved.files -= wanted.files
  const quota = { bytes: limits.quota_bytes, files: limits.quota_files }
  refuseOver({ limit: 'quotaScope', name: scope, quota, usage, reserved, wanted })
}

/** What the vfolders of a scope have, and what is reserved in them. */
export async function scopeUsage(on: Database, scope: string): Promise<{ usage: Amount; reserved: Amount }> {
  const sum = (column: CounterColumn) => sql<number>`coalesce(sum(${asDouble(column)}), 0)`
  const row = await on
    .selectFrom('vfolders')
    .select([
      sum('usage_bytes').as('usageBytes'),
      sum('usage_files').as('usageFiles'),
      sum('reserved_bytes').as('reservedBytes'),
      sum('reserved_files').as('reservedFiles'),
    ])
    .where('quota_scope', '=', scope)
    .where('state', '!=', 'deleting')
    .executeTakeFirstOrThrow()
  return {
    usage: { bytes: row.usageBytes, files: row.usageFiles },
    reserved: { bytes: row.reservedBytes, files: row.reservedFiles },
  }
}

export async function findScope(on: Database, scope: string) {
  return on.selectFrom('quota_scopes').selectAll().where('scope', '=', scope).executeTakeFirst()
}

/** How much room there is, for who takes less than wanted. */
export async function available(trx: Database, vfolder: string): Promise<Amount> {
  const row = await trx.selectFrom('vfolders').selectAll().where('id', '=', vfolder).executeTakeFirstOrThrow()
  const room = left(
    { bytes: row.quota_bytes, files: row.quota_files },
    { bytes: row.usage_bytes + row.reserved_bytes, files: row.usage_files + row.reserved_files },
  )
  const scope = row.quota_scope === null ? undefined : await findScope(trx, row.quota_scope)
  if (scope === undefined) return room
  const { usage, reserved } = await scopeUsage(trx, scope.scope)
  const quota = { bytes: scope.quota_bytes, files: scope.quota_files }
  const inScope = left(quota, { bytes: usage.bytes + reserved.bytes, files: usage.files + reserved.files })
  return { bytes: Math.min(room.bytes, inScope.bytes), files: Math.min(room.files, inScope.files) }
}

export async function giveBack(trx: Database, vfolder: string, amount: Amount): Promise<void> {
  await trx
    .updateTable('vfolders')
    .set((eb) => ({
      reserved_bytes: eb('reserved_bytes', '-', amount.bytes),
      reserved_files: eb('reserved_files', '-', amount.files),
      revision: eb('revision', '+', 1),
    }))
    .where('id', '=', vfolder)
    .execute()
}

/** The counters follow what this service does; they never go below nothing when others have removed files. */
export async function count(trx: Database, vfolder: string, by: Amount): Promise<void> {
  const sum = (column: 'usage_bytes' | 'usage_files', change: number) => {
    const changed = sql<number>`${sql.ref(column)} + ${change}`
    return sql<number>`case when ${changed} < 0 then 0 else ${changed} end`
  }
  await trx
    .updateTable('vfolders')
    .set((eb) => ({
      usage_bytes: sum('usage_bytes', by.bytes),
      usage_files: sum('usage_files', by.files),
      revision: eb('revision', '+', 1),
    }))
    .where('id', '=', vfolder)
    .execute()
}

function left(quota: Quota, taken: Amount): Amount {
  return {
    bytes: Math.max(0, maximumOf(quota, 'bytes') - taken.bytes),
    files: Math.max(0, maximumOf(quota, 'files') - taken.files),
  }
}

interface Claim {
  limit: 'vfolder' | 'quotaScope'
  name: string
  quota: Quota
  usage: Amount
  reserved: Amount
  wanted: Amount
}

/** What takes no room is never refused: who is over a limit must be able to get below it. */
function refuseOver({ limit, name, quota, usage, reserved, wanted }: Claim): void {
  for (const unit of units) {
    const maximum = maximumOf(quota, unit)
    if (wanted[unit] <= 0 || usage[unit] + reserved[unit] + wanted[unit] <= maximum) continue
    const numbers = { quota: maximum, usage: usage[unit], reserved: reserved[unit], wanted: wanted[unit] }
    const where = limit === 'vfolder' ? `vfolder ${name}` : `quota scope ${name}`
    const detail = `The ${where} may have ${maximum} ${unit}: ${numbers.usage} are used, ${numbers.reserved} reserved, and ${numbers.wanted} more were wanted.`
    throw new Problem('quota_exceeded', detail, { members: { limit, unit, ...numbers } })
  }
}
