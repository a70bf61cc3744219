import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from '../server.ts'
import { namedS3Server } from '../tools.ts'

const keeper = fileURLToPath(new URL('keeper.ts', import.meta.url))

/** Options of a volume of type `s3`. */
export interface S3Server {
  endpoint: string
  region: string
  bucket: string
  accessKeyId: string
  secretAccessKey: string
}

/**
 * A real S3 server: the one that `S3_ENDPOINT`, `S3_BUCKET`, `S3_ACCESS_KEY_ID`, `S3_SECRET_ACCESS_KEY` and `S3_REGION`
 * name, else Ceph's gateway.
 */
export async function s3Server(): Promise<S3Server> {
  return namedS3Server ?? cephServer()
}

/**
 * Ceph's gateway. It takes its time to start, so all files of a test run share one, which ends with the run: it is named
 * by the process that the files have in common.
 */
export async function cephServer(): Promise<S3Server> {
  const directory = cephDirectory()
  try {
    await mkdir(directory, { mode: 0o700 })
    const child = spawn(process.execPath, [keeper, directory, String(process.ppid)], {
      detached: true,
      stdio: 'ignore',
    })
    await once(child, 'spawn')
    child.unref()
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  return eventually(async () => {
    const failure = await readFile(join(directory, 'failed'), 'utf8').catch(() => undefined)
    if (failure !== undefined) throw new Error(`Ceph does not start: ${failure}`)
    const ready = await readFile(join(directory, 'ready.json'), 'utf8').catch(() => undefined)
    return ready !== undefined && JSON.parse(ready)
  }, 120_000)
}

/** Where the gateway logs what it did, a JSON line a request. */
export function cephLog(): string {
  return join(cephDirectory(), 'ops.log')
}

/** Where the Ceph of this test run has its files. */
export function cephDirectory(): string {
  return join(tmpdir(), `storage-proxy-ceph-${process.ppid}`)
}

/** A part of the bucket that is the test's own. */
export async function s3Volume(): Promise<S3Server & { backend: 's3'; prefix: string }> {
  return { backend: 's3', ...(await s3Server()), prefix: `test-${randomUUID()}` }
}
