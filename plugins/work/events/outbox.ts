import { sql } from 'kysely'
import type { Database } from '../../storage/database/tables.ts'
import type { EventRow } from './event.ts'

/** How many are given their positions in one transaction. */
const atOnce = 1000

const columns = [
  ...(['position', 'id', 'type', 'vfolder', 'volume'] as const),
  ...(['request_id', 'origin_request_id', 'traceparent', 'time', 'data'] as const),
]

export interface Placed {
  /** The last position. */
  last: number
  /** Whether there may be more without a position. */
  more: boolean
  /** The vfolders that they are about. */
  folders: string[]
}

/**
 * Gives positions to events that have none, in the order in which they were written. Transactions that write events commit
 * in any order, so a number that is given while they are written would let a reader pass by one that commits late. A
 * position is given to what was committed, by one transaction at a time.
 * @returns undefined when there was none without
 */
export async function place(trx: Database): Promise<Placed | undefined> {
  const { last } = await trx.selectFrom('event_positions').select('last').forUpdate().executeTakeFirstOrThrow()
  const placed = await trx
    .with('placed', (query) =>
      query
        .selectFrom('events')
        .select(['number', sql<number>`row_number() over (order by number)`.as('rank')])
        .where('position', 'is', null)
        .orderBy('number')
        .limit(atOnce),
    )
    .updateTable('events')
    .from('placed')
    .set({ position: sql<number>`${sql.lit(last)} + placed.rank` })
    .whereRef('events.number', '=', 'placed.number')
    .returning('vfolder')
    .execute()
  if (placed.length === 0) return undefined
  const end = last + placed.length
  await trx.updateTable('event_positions').set({ last: end }).execute()
  const folders = new Set(placed.flatMap(({ vfolder }) => vfolder ?? []))
  return { last: end, more: placed.length === atOnce, folders: [...folders] }
}

/** Until the transaction ends, nobody else gives positions, or takes this lock. */
export async function lock(trx: Database): Promise<void> {
  await trx.selectFrom('event_positions').select('last').forUpdate().execute()
}

/** Whether events wait for their positions. */
export async function hasUnplaced(on: Database): Promise<boolean> {
  const query = on.selectFrom('events').select('number').where('position', 'is', null).limit(1)
  return (await query.executeTakeFirst()) !== undefined
}

export async function countUnplaced(on: Database): Promise<number> {
  const count = on.selectFrom('events').select(({ fn }) => fn.countAll<number>().as('events'))
  return (await count.where('position', 'is', null).executeTakeFirstOrThrow()).events
}

/** In their order, after a position. */
export async function readAfter(on: Database, position: number, limit: number): Promise<EventRow[]> {
  const query = on.selectFrom('events').select(columns).where('position', '>', position)
  const rows = await query.orderBy('position').limit(limit).execute()
  return rows.flatMap((row) => (row.position === null ? [] : [{ ...row, position: row.position }]))
}

export async function readAt(on: Database, positions: number[]): Promise<EventRow[]> {
  if (positions.length === 0) return []
  const query = on.selectFrom('events').select(columns).where('position', 'in', positions)
  const rows = await query.orderBy('position').execute()
  return rows.flatMap((row) => (row.position === null ? [] : [{ ...row, position: row.position }]))
}

/** The last position that was given, and the last whose event is not kept any more. */
export async function positions(on: Database): Promise<{ last: number; forgotten: number }> {
  return on.selectFrom('event_positions').select(['last', 'forgotten']).executeTakeFirstOrThrow()
}

/** When the oldest event after a position, or one without any, happened. */
export async function oldestAfter(on: Database, position: number): Promise<number | undefined> {
  const placed = on.selectFrom('events').select('time').where('position', '>', position).orderBy('position').limit(1)
  const unplaced = on.selectFrom('events').select('time').where('position', 'is', null).orderBy('number').limit(1)
  return ((await placed.executeTakeFirst()) ?? (await unplaced.executeTakeFirst()))?.time
}

/**
 * Removes events from before `time`, up to a position, at most `limit` of them.
 * @returns the last one that was removed; undefined when there is none to remove
 */
export async function forgetBefore(
  trx: Database,
  { time, upTo, limit }: { time: number; upTo: number; limit: number },
): Promise<number | undefined> {
  const oldest = await trx
    .selectFrom('events')
    .select(['position', 'time'])
    .where('position', '<=', upTo)
    .orderBy('position')
    .limit(limit)
    .execute()
  const young = oldest.findIndex((row) => row.time >= time)
  const last = (young === -1 ? oldest : oldest.slice(0, young)).at(-1)?.position
  if (last === undefined || last === null) return undefined
  await trx.deleteFrom('events').where('position', '<=', last).execute()
  await trx.updateTable('event_positions').set({ forgotten: last }).where('forgotten', '<', last).execute()
  return last
}
