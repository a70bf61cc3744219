import type { Row } from '../row.ts'
import { send } from '../sender.ts'
import { startService } from '../service.ts'

const MiB = 1024 ** 2

export const memoryPut: Row = {
  name: 'memory-put',
  what: '20 clients PUT 256 MiB each at once, and then one 4 GiB',
  bound: { belowMiB: 200 },
  async measure(bench) {
    const service = await startService(bench)
    const paths = Array.from({ length: 20 }, (_, index) => `file-${index}`)
    const urls = await service.signUploads(await service.createFolder(), paths)
    await Promise.all(urls.map((url) => send('PUT', url, 256 * MiB)))
    await send('PUT', urls[0]!, 4096 * MiB)
    return { peakMiB: await service.peakMiB() }
  },
}
