import type { Database } from './database/tables.ts'

/** More processes than this do not give one volume a new epoch within one interval. */
const epochsKept = 100

export async function databaseIdentity(on: Database): Promise<string> {
  return (await on.selectFrom('database_identity').select('id').executeTakeFirstOrThrow()).id
}

/** `identity` is null of a volume that was used before there were identities. */
export async function find(on: Database, name: string): Promise<{ identity: string | null } | undefined> {
  return on.selectFrom('volumes').select('identity').where('name', '=', name).executeTakeFirst()
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

export async function remember(
  on: Database,
  { name, identity, epoch }: { name: string; identity: string; epoch: string },
): Promise<void> {
  await on.transaction().execute(async (trx) => {
    await trx
      .insertInto('volumes')
      .values({ name, identity })
      .onConflict((conflict) => conflict.column('name').doUpdateSet({ identity }))
      .execute()
    await trx.insertInto('volume_epochs').values({ volume: name, epoch, created_at: Date.now() }).execute()
  })
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
