import type { Row } from '../row.ts'
import { startS3 } from '../s3.ts'
import { send } from '../sender.ts'
import { sink } from '../sink.ts'

const MiB = 1024 ** 2

export const s3Memory: Row = {
  name: 's3-memory',
  what: '16 clients PUT 128 MiB each to S3 at once, and then 32 download 256 MiB each, slow ones and fast ones',
  bound: { belowMiB: 250 },
  async measure(bench) {
    const { service } = await startS3(bench)
    const folder = await service.createFolder()
    const paths = Array.from({ length: 16 }, (_, index) => `file-${index}`)
    await Promise.all((await service.signUploads(folder, paths)).map((url) => send('PUT', url, 128 * MiB)))

    const [target = ''] = await service.signUploads(folder, ['large'])
    await send('PUT', target, 256 * MiB)
    const [url = ''] = await service.signDownloads(folder, ['large'])
    const clients = Array.from({ length: 32 })
    await Promise.all(clients.map(() => sink(url, { bytesPerSecond: 4 * MiB, bytes: 40 * MiB })))
    await Promise.all(clients.map(() => sink(url)))
    return { peakMiB: await service.peakMiB() }
  },
}
