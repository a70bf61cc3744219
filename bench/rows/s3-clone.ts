import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { copiesAtOnce } from '../../backends/s3/clone.ts'
import { installed } from '../debian.ts'
import { alternately, type Row, seconds } from '../row.ts'
import { startS3 } from '../s3.ts'
import { deleteObjects, putObjects } from '../s3-objects.ts'

const run = promisify(execFile)
const files = 5000

export const s3Clone: Row = {
  name: 's3-clone',
  what: 'clone of a vfolder of 5,000 objects, against rclone copy inside the server, of equal concurrency',
  bound: { atMost: 1 },
  async measure(bench) {
    await installed('rclone', 'rclone')
    const { service, server, prefix, client, keyOf } = await startS3(bench)
    const folder = await service.createFolder()
    await putObjects(client, server.bucket, keyOf(folder, ''), files, 4096)
    const env = {
      PATH: process.env.PATH,
      RCLONE_CONFIG: '/dev/null',
      RCLONE_CONFIG_S3_TYPE: 's3',
      RCLONE_CONFIG_S3_PROVIDER: 'Ceph',
      RCLONE_CONFIG_S3_ENDPOINT: server.endpoint,
      RCLONE_CONFIG_S3_ACCESS_KEY_ID: server.accessKeyId,
      RCLONE_CONFIG_S3_SECRET_ACCESS_KEY: server.secretAccessKey,
    }
    const concurrency = ['--transfers', `${copiesAtOnce}`, '--checkers', `${copiesAtOnce}`]
    const remote = (key: string) => `s3:${server.bucket}/${key}`
    return alternately(3, 's', {
      ours: async () => {
        let clone = ''
        const took = await seconds(async () => {
          clone = await service.clone(folder)
        })
        await service.removeFolder(clone)
        return took
      },
      peer: async () => {
        const copy = ['copy', remote(keyOf(folder, '')), remote(`${prefix}/peer/`), ...concurrency]
        const took = await seconds(() => run('rclone', copy, { env }))
        await deleteObjects(client, server.bucket, `${prefix}/peer/`)
        return took
      },
    })
  },
}
