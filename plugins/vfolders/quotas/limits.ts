import { difference, nothing, sum } from '../../../backends/amount.ts'
import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'
import * as vfolders from '../rows.ts'
import { mostCounted, type Quota, units, vfolderNotFound } from '../rows.ts'
import { findScope } from './scopes.ts'

/** No limit is what a counter can hold. */
const maximumOf = (quota: Quota, unit: keyof Amount): number => quota[unit] ?? mostCounted

export interface AsideOptions {
  /** Another vfolder that this comes from; a scope that both are in needs no room for it. */
  from?: string | undefined
  /** What the caller has there already, which a refusal tells apart from what others have reserved. */
  held?: Amount
  /** What is given back first. */
  freed?: Amount
  /** What is counted first. */
  changed?: Amount
}

export interface SetAside {
  /** Tells the vfolder from an earlier one of that ID. */
  createdAt: string
  isLimited: boolean
}

/**
 * Sets room aside in a vfolder, and in its scope, or refuses; gives some back when `wanted` is negative. It adds first
 * and checks then: the addition locks both rows, in this order, and is to what others have committed until then, so two
 * at once do not both take the last room. A refusal undoes it with the transaction.
 * @throws {Problem} `quota_exceeded` or `vfolder_not_found`
 */
export async function setAside(
  trx: Database,
  vfolder: string,
  wanted: Amount,
  { from, held = nothing, freed = nothing, changed = nothing }: AsideOptions = {},
): Promise<SetAside> {
  const counters = await vfolders.reserve(trx, vfolder, difference(wanted, freed), changed)
  if (counters === undefined) throw vfolderNotFound(vfolder)
  const { quota, quotaScope, usage, createdAt } = counters
  const reserved = difference(counters.reserved, wanted)
  refuseOver({ limit: 'vfolder', name: vfolder, quota, usage, reserved, held, wanted })
  if (quotaScope !== null && (await scopeOf(trx, from)) !== quotaScope) {
    await refuseOverScope(trx, quotaScope, wanted, held)
  }
  return { createdAt, isLimited: quotaScope !== null || units.some((unit) => quota[unit] !== null) }
}

async function scopeOf(trx: Database, vfolder: string | undefined): Promise<string | null | undefined> {
  return vfolder === undefined ? undefined : (await vfolders.findCounters(trx, vfolder))?.quotaScope
}

/** @throws {Problem} `quota_exceeded` when the vfolders of a scope, with `wanted` reserved in one of them, are over it */
async function refuseOverScope(trx: Database, scope: string, wanted: Amount, held: Amount): Promise<void> {
  // It was counted along, and locked, when the room was set aside in the vfolder.
  const counters = await findScope(trx, scope)
  if (counters === undefined) return
  const { quota, usage, reserved } = counters
  refuseOver({ limit: 'quotaScope', name: scope, quota, usage, reserved: difference(reserved, wanted), held, wanted })
}

/**
 * Refuses a vfolder that counts in its scope again, from this transaction on, where that puts the scope over its limits.
 * @throws {Problem} `quota_exceeded`
 */
export async function admitToScope(trx: Database, vfolder: string): Promise<void> {
  const counters = await vfolders.findCounters(trx, vfolder)
  if (counters === undefined || counters.quotaScope === null) return
  const scope = await findScope(trx, counters.quotaScope)
  if (scope === undefined) return
  const usage = difference(scope.usage, counters.usage)
  const { quota, reserved } = scope
  refuseOver({
    limit: 'quotaScope',
    name: counters.quotaScope,
    quota,
    usage,
    reserved,
    held: nothing,
    wanted: counters.usage,
  })
}

/**
 * How much room there is, for callers that also take less than they want. Both rows are locked, in the order of
 * `setAside`, so that the room is still there when it is taken in the same transaction.
 * @throws {Problem} `vfolder_not_found`
 */
export async function findAvailable(trx: Database, vfolder: string): Promise<Amount> {
  const counters = await vfolders.findCounters(trx, vfolder, true)
  if (counters === undefined) throw vfolderNotFound(vfolder)
  const { quota, quotaScope, usage, reserved } = counters
  const room = leftOf(quota, sum(usage, reserved))
  const scope = quotaScope === null ? undefined : await findScope(trx, quotaScope, true)
  if (scope === undefined) return room
  const inScope = leftOf(scope.quota, sum(scope.usage, scope.reserved))
  return { bytes: Math.min(room.bytes, inScope.bytes), files: Math.min(room.files, inScope.files) }
}

function leftOf(quota: Quota, taken: Amount): Amount {
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
  /** By anybody, before. */
  reserved: Amount
  /** The part of it that the one who asks has. */
  held: Amount
  wanted: Amount
}

/** A change that takes no room is never refused: a vfolder over its limit must be able to get below it. */
function refuseOver({ limit, name, quota, usage, reserved, held, wanted }: Claim): void {
  for (const unit of units) {
    const maximum = maximumOf(quota, unit)
    if (wanted[unit] <= 0 || usage[unit] + reserved[unit] + wanted[unit] <= maximum) continue
    // A reservation that was given back is held only in the eyes of the one who had it.
    const own = Math.min(held[unit], reserved[unit])
    const numbers = {
      quota: maximum,
      usage: usage[unit],
      reserved: reserved[unit] - own,
      held: own,
      wanted: wanted[unit],
    }
    const where = limit === 'vfolder' ? `vfolder ${name}` : `quota scope ${name}`
    const reservedBy = `${numbers.reserved} reserved${own > 0 ? ` by others, ${own} by this one` : ''}`
    const detail = `The ${where} may have ${maximum} ${unit}: ${numbers.usage} are used, ${reservedBy}, and ${numbers.wanted} more were wanted.`
    throw new Problem('quota_exceeded', detail, { members: { limit, unit, ...numbers } })
  }
}
