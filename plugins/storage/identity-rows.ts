import type { Database } from './database/tables.ts'

/** More processes than this do not give one volume a new epoch within one interval. */
const epochsKept = 100

export async function databaseIdentity(on: Database): Promise<string> {
  return (await on.selectFrom('database_identity').select('id').executeTakeFirstOrThrow()).id
}

export interface Known {
  /** Null of a volume that was used before there were identities. */
  identity: string | null
  /** Whether the volume has its mark for sure. */
  isMarked: boolean
}

export async function find(on: Database, name: string): Promise<Known | undefined> {
  const row = await on
    .selectFrom('volumes')
    .select(['identity', 'is_marked'])
    .where('name', '=', name)
    .executeTakeFirst()
  return row && { identity: row.identity, isMarked: row.is_marked === 1 }
}

/** Whether the volume was used with this database before. */
export async function isRemembered(on: Database, name: string): Promise<boolean> {
  return (await find(on, name)) !== undefined
}

export async function hasEpoch(on: Database, volume: string, epoch: string): Promise<boolean> {
  const row = await on
    .selectFrom('volume_epochs')
    .select('epoch')
    .where('volume', '=', volume)
    .where('epoch', '=', epoch)
    .executeTakeFirst()
  return row !== undefined
}

/** Gives a volume an identity, unless it has one: of all processes that use it first, one decides. */
export async function introduce(on: Database, name: string, identity: string): Promise<string> {
  const row = await on
    .insertInto('volumes')
    .values({ name, identity })
    .onConflict((conflict) =>
      conflict
        .column('name')
        .doUpdateSet((eb) => ({ identity: eb.fn.coalesce('volumes.identity', 'excluded.identity') })),
    )
    .returning('identity')
    .executeTakeFirstOrThrow()
  return row.identity ?? identity
}

/** Remembers that the volume has this identity. */
export async function remember(on: Database, name: string, identity: string): Promise<void> {
  await on
    .insertInto('volumes')
    .values({ name, identity, is_marked: 1 })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ identity, is_marked: 1 }))
    .execute()
}

/** @param now by the clock of the database, since epochs of several processes are put in order */
export async function addEpoch(on: Database, volume: string, epoch: string, now: number): Promise<void> {
  await on.insertInto('volume_epochs').values({ volume, epoch, created_at: now }).execute()
}

/** Forgets old epochs, but the last ones: those that other processes have just written may be on the volume. */
export async function forgetEpochsBefore(on: Database, volume: string, epoch: string): Promise<void> {
  const kept = on
    .selectFrom('volume_epochs')
    .select('epoch')
    .where('volume', '=', volume)
    .orderBy('created_at', 'desc')
    .limit(epochsKept)
  await on
    .deleteFrom('volume_epochs')
    .where('volume', '=', volume)
    .where('epoch', '!=', epoch)
    .where('epoch', 'not in', kept)
    .execute()
}
