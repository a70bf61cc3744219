import type { Insertable, Selectable } from 'kysely'
import type { Database, Tables } from '../../storage/database/tables.ts'

export type Letter = Selectable<Tables['event_letters']>

export async function insert(trx: Database, letters: Insertable<Tables['event_letters']>[]): Promise<void> {
  if (letters.length > 0) await trx.insertInto('event_letters').values(letters).execute()
}

const waiting = (on: Database, target: string) =>
  on.selectFrom('event_letters').where('target', '=', target).where('state', '=', 'waiting')

/** The lanes whose first letter is due. */
export async function findDueLanes(on: Database, target: string, now: number): Promise<string[]> {
  const first = waiting(on, target)
    .select(({ fn }) => fn.min('position').as('position'))
    .groupBy('lane')
  const due = await waiting(on, target)
    .select('lane')
    .where('due_at', '<=', now)
    .where('position', 'in', first.$castTo<{ position: number }>())
    .execute()
  return due.map(({ lane }) => lane)
}

/** When the next letter is due, after `now`. */
export async function nextDue(on: Database, target: string, now: number): Promise<number | undefined> {
  const query = waiting(on, target)
    .select(({ fn }) => fn.min('due_at').as('due'))
    .where('due_at', '>', now)
  return (await query.executeTakeFirst())?.due ?? undefined
}

/** Which of these lanes have letters that wait. */
export async function findHeldLanes(on: Database, target: string, lanes: string[]): Promise<Set<string>> {
  if (lanes.length === 0) return new Set()
  const rows = await waiting(on, target).select('lane').distinct().where('lane', 'in', lanes).execute()
  return new Set(rows.map(({ lane }) => lane))
}

/** Which events behind a position, up to another one, are letters. */
export async function findBetween(on: Database, target: string, after: number, upTo: number): Promise<Set<number>> {
  const rows = await on
    .selectFrom('event_letters')
    .select('position')
    .where('target', '=', target)
    .where('position', '>', after)
    .where('position', '<=', upTo)
    .execute()
  return new Set(rows.map(({ position }) => position))
}

/** The first ones that wait in a lane. */
export async function readLane(on: Database, target: string, lane: string, limit: number): Promise<Letter[]> {
  return waiting(on, target).selectAll().where('lane', '=', lane).orderBy('position').limit(limit).execute()
}

export async function remove(trx: Database, target: string, positions: number[]): Promise<void> {
  if (positions.length === 0) return
  await trx.deleteFrom('event_letters').where('target', '=', target).where('position', 'in', positions).execute()
}

export async function change(
  trx: Database,
  { target, position, ...set }: Pick<Letter, 'target' | 'position' | 'state' | 'attempts' | 'due_at' | 'error'>,
): Promise<void> {
  await trx
    .updateTable('event_letters')
    .set(set)
    .where('target', '=', target)
    .where('position', '=', position)
    .execute()
}

/** How many wait and are dead, by target. */
export async function countAll(on: Database) {
  return on
    .selectFrom('event_letters')
    .select(['target', 'state'])
    .select(({ fn }) => [fn.countAll<number>().as('letters'), fn.min('position').as('first')])
    .groupBy(['target', 'state'])
    .execute()
}

/** How many events behind a position are letters, dead or not. */
export async function countAfter(on: Database, target: string, position: number): Promise<number> {
  const count = on.selectFrom('event_letters').select(({ fn }) => fn.countAll<number>().as('letters'))
  const behind = count.where('target', '=', target).where('position', '>', position)
  return (await behind.executeTakeFirstOrThrow()).letters
}

export interface DeadOptions {
  limit: number
  after?: { position: number; target: string }
  target?: string
}

export async function listDead(on: Database, { limit, after, target }: DeadOptions): Promise<Letter[]> {
  let query = on.selectFrom('event_letters').selectAll().where('state', '=', 'dead')
  if (target !== undefined) query = query.where('target', '=', target)
  if (after !== undefined) {
    query = query.where((eb) =>
      eb.or([
        eb('position', '>', after.position),
        eb.and([eb('position', '=', after.position), eb('target', '>', after.target)]),
      ]),
    )
  }
  return query.orderBy('position').orderBy('target').limit(limit).execute()
}

/** Lets dead letters of a target wait again, all or some; @returns how many there were */
export async function revive(trx: Database, target: string, positions?: number[]): Promise<number> {
  let update = trx
    .updateTable('event_letters')
    .set({ state: 'waiting', attempts: 0, due_at: 0 })
    .where('target', '=', target)
    .where('state', '=', 'dead')
  if (positions !== undefined) update = update.where('position', 'in', positions)
  return Number((await update.executeTakeFirstOrThrow()).numUpdatedRows)
}

/** Forgets those up to a position, or of targets that are gone. @returns how many were dead */
export async function forgetUpTo(trx: Database, position: number): Promise<number> {
  const rows = await trx.deleteFrom('event_letters').where('position', '<=', position).returning('state').execute()
  return rows.filter(({ state }) => state === 'dead').length
}

export async function forgetTargets(trx: Database, targets: string[]): Promise<void> {
  if (targets.length > 0) await trx.deleteFrom('event_letters').where('target', 'in', targets).execute()
}
