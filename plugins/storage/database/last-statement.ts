import type { CompiledQuery, DatabaseConnection } from 'kysely'
import type { Database } from './tables.ts'

/** Of the transactions under way, by their connections. */
const lastOf = new WeakMap<DatabaseConnection, CompiledQuery>()

/** Has a statement run right before the commit of its transaction, and in one trip with it. */
export async function setLast(trx: Database, statement: CompiledQuery): Promise<void> {
  await trx.getExecutor().provideConnection(async (connection) => {
    lastOf.set(connection, statement)
  })
}

/** For a driver that commits. */
export function takeLast(connection: DatabaseConnection): CompiledQuery | undefined {
  const statement = lastOf.get(connection)
  if (statement !== undefined) lastOf.delete(connection)
  return statement
}
