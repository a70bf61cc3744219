import { join } from 'node:path'
import t from 'tap'
import { s3Server } from '../ceph/index.ts'
import { installExample } from '../example.ts'
import { startServer } from '../server.ts'

t.test('backend-opendal is built, passes the suite and serves files', async (t) => {
  const example = await installExample(t, 'backend-opendal')
  await example.npm(['run', 'build'])
  const { endpoint, bucket, region, accessKeyId, secretAccessKey } = await s3Server()
  const env = {
    S3_ENDPOINT: endpoint,
    S3_BUCKET: bucket,
    S3_REGION: region,
    S3_ACCESS_KEY_ID: accessKeyId,
    S3_SECRET_ACCESS_KEY: secretAccessKey,
  }
  const told = await example.npm(['test'], env)
  t.match(told, /fail 0\n/)
  for (const service of ['fs', 's3']) t.ok(told.split(`✔ ${service}: `).length > 90, `the suite ran on ${service}`)

  const start = (options: object) => {
    const VOLUMES = JSON.stringify({ v: { backend: 'opendal', ...options } })
    const BACKEND_PLUGINS = join(example.directory, 'dist/index.js')
    return startServer(t, { env: { BACKEND_PLUGINS, VOLUMES } })
  }
  const server = await start({ service: 'fs', options: { root: join(example.directory, 'root') } })
  const folder = await server.createFolder()
  await server.upload(folder, { 'dir/파일 \\.txt ': 'kept by OpenDAL' })
  const download = await fetch(await server.sign(folder, 'dir/파일 \\.txt '), { headers: { range: 'bytes=8-' } })
  t.equal(download.status, 206)
  t.equal(await download.text(), 'OpenDAL')
  const { volumes } = await server.ask('GET', '/volumes')
  t.match(volumes, [{ name: 'v', health: { healthy: true }, capabilities: ['copy'] }])

  await t.rejects(start({ service: 'sftp', options: {} }), /VOLUMES\/v\/service must be equal to one of the allowed/)
  await t.rejects(start({ service: 's3', options: {} }), /VOLUMES\/v cannot be used: .*bucket/)
})
