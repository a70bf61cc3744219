import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { alternately, type Row, seconds } from '../row.ts'
import { send } from '../sender.ts'
import { answering, freePort, start, startService } from '../service.ts'

const MiB = 1024 ** 2
const size = 256 * MiB
const version = { 'tus-resumable': '1.0.0' }

async function create(url: string): Promise<string> {
  const response = await fetch(url, { method: 'POST', headers: { ...version, 'upload-length': String(size) } })
  const location = response.headers.get('location')
  if (location === null) throw new Error(`${response.status} ${await response.text()}`)
  return new URL(location, url).href
}

/** One upload in one PATCH. */
async function speed(url: string): Promise<number> {
  const location = await create(url)
  const headers = { ...version, 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' }
  return size / MiB / (await seconds(() => send('PATCH', location, size, headers)))
}

export const tus: Row = {
  name: 'tus',
  what: 'one tus upload of 256 MiB, hashed and flushed, against @tus/server with @tus/file-store',
  bound: { atLeast: 1.5 },
  async measure(bench) {
    const service = await startService(bench)
    const [signed = ''] = await service.signUploads(await service.createFolder(), ['large'])
    const url = `${service.url}/upload/tus${new URL(signed).search}`
    const directory = join(bench.directory, 'tus')
    await mkdir(directory)
    const port = await freePort()
    start(bench, [fileURLToPath(new URL('../tus-server.ts', import.meta.url)), String(port), directory])
    const peer = `http://127.0.0.1:${port}/files`
    await answering(peer)
    return alternately(9, 'MiB/s', { ours: () => speed(url), peer: () => speed(peer) })
  },
}
