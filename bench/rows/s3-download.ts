import { alternately, type Row, seconds } from '../row.ts'
import { startPeer, startS3 } from '../s3.ts'
import { send } from '../sender.ts'
import { sink } from '../sink.ts'

const MiB = 1024 ** 2
const size = 512 * MiB

export const s3Download: Row = {
  name: 's3-download',
  what: 'one signed download of 512 MiB through the service, against a GetObject of the AWS SDK',
  bound: { atLeast: 0.85 },
  async measure(bench) {
    const { service, server, keyOf } = await startS3(bench)
    const folder = await service.createFolder()
    const [target = ''] = await service.signUploads(folder, ['large'])
    await send('PUT', target, size)
    const [url = ''] = await service.signDownloads(folder, ['large'])
    const peer = startPeer(bench)
    const speed = (took: number) => size / MiB / took
    return alternately(9, 'MiB/s', {
      ours: async () => speed(await seconds(() => sink(url))),
      peer: async () => speed(await peer({ server, operation: 'get', key: keyOf(folder, 'large') })),
    })
  },
}
