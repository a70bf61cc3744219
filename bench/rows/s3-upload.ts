import { alternately, type Row, seconds } from '../row.ts'
import { startPeer, startS3 } from '../s3.ts'
import { send } from '../sender.ts'

const MiB = 1024 ** 2
const size = 512 * MiB
/** As the service has them by default. */
const parts = { partBytes: 8 * MiB, partsAtOnce: 4 }

export const s3Upload: Row = {
  name: 's3-upload',
  what: 'one signed PUT of 512 MiB, against a multipart upload by the AWS SDK, of equal parts from memory',
  bound: { atLeast: 0.85 },
  async measure(bench) {
    const { service, server, keyOf } = await startS3(bench)
    const folder = await service.createFolder()
    const [url = ''] = await service.signUploads(folder, ['ours'])
    const peer = startPeer(bench)
    const speed = (took: number) => size / MiB / took
    return alternately(9, 'MiB/s', {
      ours: async () => speed(await seconds(() => send('PUT', url, size))),
      peer: async () =>
        speed(await peer({ server, operation: 'put', key: keyOf(folder, 'peer'), bytes: size, ...parts })),
    })
  },
}
