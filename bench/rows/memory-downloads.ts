import { join } from 'node:path'
import { fileOf } from '../files.ts'
import type { Row } from '../row.ts'
import { startService } from '../service.ts'
import { sink } from '../sink.ts'

const MiB = 1024 ** 2

export const memoryDownloads: Row = {
  name: 'memory-downloads',
  what: '100 clients download 1 GiB each: slow ones for 20 seconds, then fast ones to the end',
  bound: { belowMiB: 250 },
  async measure(bench) {
    const service = await startService(bench)
    const folder = await service.createFolder()
    await fileOf(join(await service.directoryOf(folder), 'large'), 1024 * MiB)
    const [url = ''] = await service.signDownloads(folder, ['large'])
    const clients = Array.from({ length: 100 })
    await Promise.all(clients.map(() => sink(url, { bytesPerSecond: 4 * MiB, bytes: 80 * MiB })))
    await Promise.all(clients.map(() => sink(url)))
    return { peakMiB: await service.peakMiB() }
  },
}
