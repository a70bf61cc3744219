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
  const server = await startServer(t, { dataDir, through: mounting(root, mebibytes) })
  return { server, root: seenFrom(server, root) }
}

/** Starts a server whose `DATA_DIR` is a filesystem of its own, of so many MiB, which its volume is not on. */
export async function startOnSmallDataDir(
  t: Test,
  mebibytes: number,
  more: Record<string, string> = {},
): Promise<{ server: Server; dataDir: string }> {
  const dataDir = await temporaryDirectory(t)
  const env = { VOLUMES: JSON.stringify({ default: { backend: 'posix', root: await temporaryDirectory(t) } }), ...more }
  const server = await startServer(t, { dataDir, env, through: mounting(dataDir, mebibytes) })
  return { server, dataDir: seenFrom(server, dataDir) }
}

/** A command that runs another one with a small filesystem at `path`. */
function mounting(path: string, mebibytes: number): string[] {
  return [...withOwnMounts, 'sh', '-c', `mount -t tmpfs -o size=${mebibytes}m none '${path}' && exec "$@"`, 'sh']
}

function seenFrom({ process }: Server, path: string): string {
  return join(`/proc/${process.pid}/root`, path)
}
