import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type Server, startServer, temporaryDirectory } from './server.ts'
import { withOwnMounts } from './tools.ts'

export interface SmallVolume {
  server: Server
  /** The volume's root, as it is seen from outside of the server's own mounts. */
  root: string
}

/** Starts a server whose volume `default` is a filesystem of its own, of so many MiB. */
export async function startOnSmallVolume(t: Test, mebibytes: number): Promise<SmallVolume> {
  const dataDir = await temporaryDirectory(t)
  const root = join(dataDir, 'volumes/default')
  await mkdir(root, { recursive: true })
  const mount = `mount -t tmpfs -o size=${mebibytes}m none '${root}' && exec "$@"`
  const server = await startServer(t, { dataDir, through: [...withOwnMounts, 'sh', '-c', mount, 'sh'] })
  return { server, root: join(`/proc/${server.process.pid}/root`, root) }
}
