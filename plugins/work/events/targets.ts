import type { Expression, Selectable, Updateable } from 'kysely'
import type { Database, Tables } from '../../storage/database/tables.ts'
import { positions } from './outbox.ts'

export type TargetRow = Selectable<Tables['event_targets']>

/** Remembers a target that is new: it is told what happens from now on. */
export async function introduce(db: Database, name: string): Promise<void> {
  const { last } = await positions(db)
  await db
    .insertInto('event_targets')
    .values({ name, position: last })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .execute()
}

/** Makes a process the one that tells a target, unless another one that is alive does. @returns whether it is */
export async function claim(
  db: Database,
  name: string,
  process: string,
  alive: Expression<string>,
): Promise<TargetRow | undefined> {
  const known = await find(db, name)
  if (known === undefined) await introduce(db, name)
  if (known?.process === process) return known
  return db
    .updateTable('event_targets')
    .set({ process })
    .where('name', '=', name)
    .where((eb) => eb.or([eb('process', 'is', null), eb('process', 'not in', alive)]))
    .returningAll()
    .executeTakeFirst()
}

export async function release(db: Database, name: string, process: string): Promise<void> {
  await db
    .updateTable('event_targets')
    .set({ process: null })
    .where('name', '=', name)
    .where('process', '=', process)
    .execute()
}

/** Changes a target as long as the process is the one that tells it. @returns whether it is */
export async function changeHeld(
  trx: Database,
  name: string,
  process: string,
  change: Updateable<Tables['event_targets']>,
): Promise<boolean> {
  const { numUpdatedRows } = await trx
    .updateTable('event_targets')
    .set(change)
    .where('name', '=', name)
    .where('process', '=', process)
    .executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

export async function find(db: Database, name: string): Promise<TargetRow | undefined> {
  return db.selectFrom('event_targets').selectAll().where('name', '=', name).executeTakeFirst()
}

export async function list(db: Database): Promise<TargetRow[]> {
  return db.selectFrom('event_targets').selectAll().orderBy('name').execute()
}

/** Lets a target be tried at once. */
export async function hasten(trx: Database, name: string): Promise<void> {
  await trx.updateTable('event_targets').set({ due_at: 0 }).where('name', '=', name).execute()
}

/** Forgets those that nobody is configured to tell any more. @returns their names */
export async function forgetUnused(trx: Database, configured: string[], alive: Expression<string>): Promise<string[]> {
  let removal = trx
    .deleteFrom('event_targets')
    .where((eb) => eb.or([eb('process', 'is', null), eb('process', 'not in', alive)]))
  if (configured.length > 0) removal = removal.where('name', 'not in', configured)
  return (await removal.returning('name').execute()).map(({ name }) => name)
}
