import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { password } from './password.ts'

const keeper = fileURLToPath(new URL('keeper.ts', import.meta.url))

/** Where the PostgreSQL of this test run has its files: named by the process that all files of the run have in common. */
const directory = join(tmpdir(), `storage-proxy-postgres-${process.ppid}`)

let started: Promise<string> | undefined

/** The URL of the server that `TEST_DATABASE` names, else of one that all files of a test run share. */
function serverUrl(): Promise<string> {
  const named = process.env.TEST_DATABASE ?? ''
  started ??= named.startsWith('postgres') && named.includes('://') ? Promise.resolve(named) : startShared()
  return started
}

async function startShared(): Promise<string> {
  try {
    await mkdir(directory)
    const args = [keeper, directory, String(process.ppid)]
    const child = spawn(process.execPath, args, { detached: true, stdio: 'ignore' })
    await once(child, 'spawn')
    child.unref()
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  for (const end = Date.now() + 120_000; ; await sleep(50)) {
    const failure = await readFile(join(directory, 'failed'), 'utf8').catch(() => undefined)
    if (failure !== undefined) throw new Error(`PostgreSQL does not start: ${failure}`)
    const port = await readFile(join(directory, 'ready.port'), 'utf8').catch(() => undefined)
    if (port !== undefined) return `postgres://tests:${encodeURIComponent(password)}@127.0.0.1:${port}/postgres`
    if (Date.now() > end) throw new Error('PostgreSQL does not start within two minutes')
  }
}

function nameOf(dataDir: string): string {
  return `test_${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}`
}

/** The database of a service: a fresh one for each data directory. */
export async function databaseUrl(dataDir: string): Promise<string> {
  const name = nameOf(dataDir)
  const server = await serverUrl()
  await query(server, `create database ${name}`).catch((error) => {
    // It is there, or is being made.
    if (!['42P04', '23505'].includes(error.code)) throw error
  })
  return Object.assign(new URL(server), { pathname: `/${name}` }).href
}

export async function dropDatabase(dataDir: string): Promise<void> {
  await query(await serverUrl(), `drop database if exists ${nameOf(dataDir)} with (force)`)
}

/** Nobody may be connected to it. */
export async function cloneDatabase(from: string, to: string): Promise<void> {
  await query(await serverUrl(), `create database ${nameOf(to)} template ${nameOf(from)}`)
}

// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
export async function query(url: string, sql: string): Promise<any[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const results = await client.query(sql)
    return Array.isArray(results) ? [] : results.rows
  } finally {
    await client.end()
  }
}
