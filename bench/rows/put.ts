import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startNginx } from '../nginx.ts'
import { alternately, type Bench, type Row, seconds } from '../row.ts'
import { send } from '../sender.ts'
import { answering, freePort, start, startService } from '../service.ts'

const MiB = 1024 ** 2
const size = 512 * MiB

const speed = async (url: string) => size / MiB / (await seconds(() => send('PUT', url, size)))

async function signedUrl(bench: Bench): Promise<string> {
  const service = await startService(bench)
  const [url = ''] = await service.signUploads(await service.createFolder(), ['large'])
  return url
}

export const put: Row = {
  name: 'put',
  what: 'one signed PUT of 512 MiB, hashed and flushed, against a bare Node pipeline that flushes',
  bound: { atLeast: 1 },
  async measure(bench) {
    const url = await signedUrl(bench)
    const root = join(bench.directory, 'bare')
    await mkdir(root)
    const port = await freePort()
    start(bench, [fileURLToPath(new URL('../bare-upload-server.ts', import.meta.url)), String(port), root])
    const bare = `http://127.0.0.1:${port}/large`
    await answering(bare)
    return alternately(9, 'MiB/s', { ours: () => speed(url), peer: () => speed(bare) })
  },
}

export const putNginx: Row = {
  name: 'put-nginx',
  what: 'the same against a PUT of nginx (dav), which does not flush',
  bound: { atLeast: 2 },
  async measure(bench) {
    const url = await signedUrl(bench)
    const root = join(bench.directory, 'dav')
    await mkdir(root)
    const nginx = await startNginx(bench, root, 'dav_methods PUT; client_max_body_size 0;')
    return alternately(9, 'MiB/s', { ours: () => speed(url), peer: () => speed(`${nginx}/large`) })
  },
}
