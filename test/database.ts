import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { cloneDatabase, databaseUrl, dropDatabase, query } from './postgres/index.ts'

/** A test that reads a member that is not there fails on its value. */
// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
type Row = any

/** With `TEST_DATABASE=postgres`, or the URL of a server, every service of the tests has its state in PostgreSQL. */
export const onPostgres = process.env.TEST_DATABASE?.startsWith('postgres') ?? false

/** Options of a test that is about the file of SQLite. */
export const onlySqlite = onPostgres ? { skip: 'is about SQLite' } : {}

/** The SQLite of a service that may be running, which writes to it at any time: so its locks are waited for. */
export const openDatabase = (dataDir: string) =>
  new DatabaseSync(join(dataDir, 'storage-proxy.sqlite'), { timeout: 10_000 })

/** Changes what the service remembers, by one or more statements. */
export async function changeDatabase(dataDir: string, sql: string): Promise<void> {
  if (onPostgres) {
    await query(await databaseUrl(dataDir), sql)
    return
  }
  const database = openDatabase(dataDir)
  database.exec(sql)
  database.close()
}

/** Reads what the service remembers; numbers are numbers on SQLite, and may be texts on PostgreSQL. */
export async function readDatabase(dataDir: string, sql: string): Promise<Row[]> {
  if (onPostgres) return query(await databaseUrl(dataDir), sql)
  const database = openDatabase(dataDir)
  try {
    return database.prepare(sql).all()
  } finally {
    database.close()
  }
}

const fileOf = (dataDir: string) => join(dataDir, 'storage-proxy.sqlite')
const copyOf = (dataDir: string) => join(dataDir, 'copy-of-the-database')

/** Makes a backup of what a service that has ended remembers. */
export async function copyDatabase(dataDir: string): Promise<void> {
  if (onPostgres) await cloneDatabase(dataDir, copyOf(dataDir))
  else await copyFile(fileOf(dataDir), copyOf(dataDir))
}

/** Puts the backup back. */
export async function restoreDatabase(dataDir: string): Promise<void> {
  await loseDatabase(dataDir)
  if (onPostgres) await cloneDatabase(copyOf(dataDir), dataDir)
  else await copyFile(copyOf(dataDir), fileOf(dataDir))
}

export async function loseDatabase(dataDir: string): Promise<void> {
  if (onPostgres) return dropDatabase(dataDir)
  for (const suffix of ['', '-wal', '-shm']) await rm(fileOf(dataDir) + suffix, { force: true })
}
