import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { compileCache, managerToken, type Server, signingKey, startServer, temporaryDirectory } from '../server.ts'
import { Cluster } from './cluster.ts'

const serverFile = fileURLToPath(new URL('../../server.ts', import.meta.url))

/** A PostgreSQL of this test's own, which it may stop. */
export async function startCluster(t: Test, ...settings: string[]): Promise<Cluster> {
  const cluster = await Cluster.create(join(await temporaryDirectory(t), 'cluster'))
  t.teardown(() => cluster.stop('SIGQUIT'))
  await cluster.start(...settings)
  return cluster
}

export interface SharingOptions {
  url: string
  /** The root of the volume that all have. */
  root: string
  env?: Record<string, string>
  nodeOptions?: string[]
  startMilliseconds?: number
}

/** A process with a data directory of its own, as on a machine of its own. */
export async function startSharing(t: Test, { url, root, env, ...options }: SharingOptions): Promise<Server> {
  const volumes = { default: { backend: 'posix', root } }
  return startServer(t, {
    startMilliseconds: 120_000,
    ...options,
    env: { DATABASE_URL: url, VOLUMES: JSON.stringify(volumes), ...env },
  })
}

export interface Ended {
  code: unknown
  output: string
}

/** Starts the service, which has to end by itself. */
export async function startInVain(t: Test, env: Record<string, string>): Promise<Ended> {
  const own = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: compileCache,
    PORT: '0',
    DATA_DIR: await temporaryDirectory(t),
  }
  const secrets = { MANAGER_TOKENS: managerToken, SIGNING_KEYS: signingKey }
  return new Promise((resolve) => {
    const options = { env: { ...own, ...secrets, ...env }, timeout: 60_000 }
    execFile(process.execPath, [serverFile], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code ?? error.signal), output: stdout + stderr })
    })
  })
}
