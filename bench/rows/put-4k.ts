import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { alternately, type Bench, type Measured, type Row } from '../row.ts'
import { answering, freePort, start, startService } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

const bytes = 4096
/** More than are stored in a round, so that each file is a new one. */
const filesPerRound = 12_000
const filesPerCall = 1000

async function against(bench: Bench, connections: number): Promise<Measured> {
  const service = await startService(bench)
  const root = join(bench.directory, 'bare')
  await mkdir(root)
  const port = await freePort()
  start(bench, [fileURLToPath(new URL('../bare-staging-server.ts', import.meta.url)), String(port), root])
  const bare = `http://127.0.0.1:${port}`
  await answering(bare)

  const names = () => {
    const round = randomUUID()
    return Array.from({ length: filesPerRound }, (_, index) => `${round}-${index}`)
  }
  const load = { connections, putBytes: bytes }
  return alternately(5, 'files/s', {
    ours: async () => {
      const folder = await service.createFolder()
      const urls: string[] = []
      const all = names()
      for (let at = 0; at < all.length; at += filesPerCall) {
        urls.push(...(await service.signUploads(folder, all.slice(at, at + filesPerCall))))
      }
      return requestsPerSecond(bench, urls, load)
    },
    peer: () =>
      requestsPerSecond(
        bench,
        names().map((name) => `${bare}/${name}`),
        load,
      ),
  })
}

const what =
  'signed PUTs of 4 KiB, each a new file, against a bare Node server that stages, flushes, renames and flushes'

export const put4k: Row = {
  name: 'put-4k',
  what: `${what}; 32 connections`,
  bound: { atLeast: 0.6 },
  measure: (bench) => against(bench, 32),
}

export const put4kOne: Row = {
  name: 'put-4k-one',
  what: `${what}; one connection`,
  bound: { atLeast: 0.6 },
  measure: (bench) => against(bench, 1),
}
