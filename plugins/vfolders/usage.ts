import { add, amountOf, difference, nothing } from '../../backends/amount.ts'
import type { Amount, Backend } from '../../backends/backend.ts'
import type { Database } from '../storage/database/tables.ts'

/** How often a vfolder whose usage changes during the count is counted again. */
const counts = 3

/** What a vfolder really has, by the storage's own count where it has one. */
export async function countUsage(backend: Backend, folder: string, signal: AbortSignal): Promise<Amount> {
  if (backend.usage !== undefined) return backend.usage(folder, { signal })
  const total = { files: 0, bytes: 0 }
  for await (const entry of backend.list(folder, { recursive: true, signal })) {
    add(total, amountOf(entry))
  }
  return total
}

export interface Sync {
  counted: Amount
  /** By how much the counters were off. */
  drift: Amount
  /** Nothing changed during the count. */
  exact: boolean
}

/**
 * Sets the counters of a vfolder to what is counted. A change during the count may be in it or not, so it is counted
 * again; and where the vfolder does not come to rest, a count that the changes alone can explain changes nothing.
 */
export async function putUsageRight(db: Database, folder: string, count: () => Promise<Amount>): Promise<Sync> {
  let before = await counters(db, folder)
  for (let attempt = 1; ; attempt++) {
    const counted = await count()
    const after = await counters(db, folder)
    const rested = !before.busy && !after.busy && before.revision === after.revision
    if (rested && (await set(db, folder, counted, after.revision))) {
      return { counted, drift: difference(counted, after), exact: true }
    }
    if (attempt === counts) {
      if (between(before, counted, after)) return { counted, drift: nothing, exact: false }
      await set(db, folder, counted)
      return { counted, drift: difference(counted, after), exact: false }
    }
    before = after
  }
}

interface Counters extends Amount {
  reserved: Amount
  revision: number
  /** Work is under way that may change the usage. */
  busy: boolean
}

async function counters(db: Database, folder: string): Promise<Counters> {
  const row = await db
    .selectFrom('vfolders')
    .selectAll()
    .select((eb) =>
      eb
        .selectFrom('reservations')
        .select((inner) => inner.fn.countAll<number>().as('count'))
        .where('vfolder', '=', folder)
        .as('reservations'),
    )
    .where('id', '=', folder)
    .executeTakeFirstOrThrow()
  return {
    files: row.usage_files,
    bytes: row.usage_bytes,
    reserved: { files: row.reserved_files, bytes: row.reserved_bytes },
    revision: row.revision,
    busy: Number(row.reservations) > 0,
  }
}

async function set(db: Database, folder: string, usage: Amount, revision?: number): Promise<boolean> {
  let update = db
    .updateTable('vfolders')
    .set({ usage_files: usage.files, usage_bytes: usage.bytes, usage_synced_at: new Date().toISOString() })
    .where('id', '=', folder)
  if (revision !== undefined) update = update.where('revision', '=', revision)
  const { numUpdatedRows } = await update.executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

function between(before: Counters, counted: Amount, after: Counters): boolean {
  return (['files', 'bytes'] as const).every((unit) => {
    const least = Math.min(before[unit], after[unit])
    const most = Math.max(before[unit] + before.reserved[unit], after[unit] + after.reserved[unit])
    return counted[unit] >= least && counted[unit] <= most
  })
}
