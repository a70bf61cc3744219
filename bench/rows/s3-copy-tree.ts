import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { installed } from '../debian.ts'
import { alternately, type Row, seconds } from '../row.ts'
import { startS3 } from '../s3.ts'
import { deleteObjects, putObjects } from '../s3-objects.ts'

const run = promisify(execFile)
const files = 2000

export const s3CopyTree: Row = {
  name: 's3-copy-tree',
  what: 'copy of a directory of 2,000 objects by a job, staged and then moved, against rclone copy inside the server',
  bound: { atMost: 4 },
  async measure(bench) {
    await installed('rclone', 'rclone')
    const { service, server, prefix, client, keyOf } = await startS3(bench)
    const folder = await service.createFolder()
    await putObjects(client, server.bucket, keyOf(folder, 'tree/'), files, 4096)
    const env = {
      PATH: process.env.PATH,
      RCLONE_CONFIG: '/dev/null',
      RCLONE_CONFIG_S3_TYPE: 's3',
      RCLONE_CONFIG_S3_PROVIDER: 'Ceph',
      RCLONE_CONFIG_S3_ENDPOINT: server.endpoint,
      RCLONE_CONFIG_S3_ACCESS_KEY_ID: server.accessKeyId,
      RCLONE_CONFIG_S3_SECRET_ACCESS_KEY: server.secretAccessKey,
    }
    const remote = (key: string) => `s3:${server.bucket}/${key}`
    const concurrency = ['--transfers', '32', '--checkers', '32']
    return alternately(3, 's', {
      ours: async () => {
        const took = await seconds(() => service.copy(folder, 'tree', 'copy'))
        await deleteObjects(client, server.bucket, keyOf(folder, 'copy/'))
        return took
      },
      peer: async () => {
        const copy = ['copy', remote(keyOf(folder, 'tree/')), remote(`${prefix}/peer/`), ...concurrency]
        const took = await seconds(() => run('rclone', copy, { env }))
        await deleteObjects(client, server.bucket, `${prefix}/peer/`)
        return took
      },
    })
  },
}
