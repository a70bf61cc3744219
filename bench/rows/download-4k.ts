import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { python, pythonModule } from '../debian.ts'
import { fileOf } from '../files.ts'
import { alternately, type Bench, type Measured, type Row } from '../row.ts'
import { answering, freePort, start, startService, stop } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

/** Both serve the same files; the peer is a server that gives those of `directory` by their names. */
async function against(
  bench: Bench,
  startPeer: (port: number, directory: string) => void | Promise<void>,
): Promise<Measured> {
  const service = await startService(bench)
  const folder = await service.createFolder()
  const directory = await service.directoryOf(folder)
  const names = Array.from({ length: 1000 }, (_, index) => `file-${index}`)
  for (const name of names) await fileOf(join(directory, name), 4096)
  const urls = await service.signDownloads(folder, names)

  const port = await freePort()
  await startPeer(port, directory)
  const peer = `http://127.0.0.1:${port}`
  await answering(peer)
  const peerUrls = names.map((name) => `${peer}/${name}`)
  return alternately(5, 'files/s', {
    ours: () => requestsPerSecond(bench, urls),
    peer: () => requestsPerSecond(bench, peerUrls),
  })
}

export const download4k: Row = {
  name: 'download-4k',
  what: 'signed downloads of 1000 files of 4 KiB, against a bare Node server',
  bound: { atLeast: 0.6 },
  measure: (bench) =>
    against(bench, (port, directory) => {
      start(bench, [fileURLToPath(new URL('../bare-file-server.ts', import.meta.url)), String(port), directory])
    }),
}

export const download4kAiohttp: Row = {
  name: 'download-4k-aiohttp',
  what: "the same against aiohttp's FileResponse",
  bound: { atLeast: 4 },
  measure: (bench) =>
    against(bench, async (port, directory) => {
      await pythonModule('aiohttp', 'python3-aiohttp')
      const script = fileURLToPath(new URL('../aiohttp-server.py', import.meta.url))
      const child = spawn(python, [script, String(port), directory], { stdio: ['ignore', 'ignore', 'inherit'] })
      bench.cleanup(() => stop(child))
    }),
}
