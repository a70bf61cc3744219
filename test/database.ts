import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** The database of a service that may be running, which writes to it at any time: so its locks are waited for. */
export const openDatabase = (dataDir: string) =>
  new DatabaseSync(join(dataDir, 'storage-proxy.sqlite'), { timeout: 10_000 })

export function changeDatabase(dataDir: string, sql: string) {
  const database = openDatabase(dataDir)
  database.exec(sql)
  database.close()
}
