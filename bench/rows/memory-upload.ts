import { execFile } from 'node:child_process'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Row } from '../row.ts'
import { startService } from '../service.ts'

const run = promisify(execFile)

export const memoryUpload: Row = {
  name: 'memory-upload',
  what: 'one client uploads 10 GiB in a form',
  bound: { belowMiB: 250 },
  async measure(bench) {
    const service = await startService(bench)
    const folder = await service.createFolder()
    const source = join(bench.directory, 'source')
    const handle = await open(source, 'w')
    await handle.truncate(10 * 1024 ** 3)
    await handle.close()
    const headers = ['-H', `Authorization: ${service.authorization}`]
    await run('curl', ['-sSf', ...headers, '-F', `file=@${source}`, `${service.url}/folders/upload?folder=${folder}`])
    return { peakMiB: await service.peakMiB() }
  },
}
