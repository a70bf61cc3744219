import t from 'tap'
import { s3Volume } from '../ceph/index.ts'
import { type Answer, startServer } from '../server.ts'

/** A service that redirects, and a file whose bytes are replaced after a client has seen its etag. */
async function start(t: { teardown(fn: () => unknown): void }) {
  const VOLUMES = JSON.stringify({ default: { ...(await s3Volume()), redirect: true } })
  const server = await startServer(t, { env: { VOLUMES } })
  const folder = await server.createFolder()
  await server.upload(folder, { file: 'first bytes' })
  return { server, folder, url: await server.sign(folder, 'file') }
}

t.test('a client never joins bytes of two files, however the storage takes If-Range', async (t) => {
  const { server, folder, url } = await start(t)
  const etag = (await fetch(url)).headers.get('etag')!
  const resume = (ifRange: string) => fetch(url, { headers: { range: 'bytes=6-', 'if-range': ifRange } })
  const rest = await resume(etag)
  t.equal(rest.status, 206)
  t.equal(await rest.text(), 'bytes')
  t.ok(rest.redirected, 'bytes of the same file come from the storage')

  await server.upload(folder, { file: 'other content' })
  for (const old of [etag, new Date(Date.now() - 60_000).toUTCString()]) {
    const whole = await resume(old)
    t.equal(whole.status, 200)
    t.equal(await whole.text(), 'other content')
  }
})

t.test('several ranges, which the storage does not give, come from the service', async (t) => {
  const { url } = await start(t)
  const response = await fetch(url, { headers: { range: 'bytes=0-4,6-10' } })
  t.equal(response.status, 206)
  t.match(response.headers.get('content-type'), /^multipart\/byteranges/)
  const parts = await response.text()
  t.match(parts, /first/)
  t.match(parts, /bytes/)
})

t.test('a URL of the storage, which knows no rate, is not signed with one', async (t) => {
  const { server, folder } = await start(t)
  const body = { operation: 'download', paths: ['file'], direct: true, bytesPerSecond: 2000 }
  const refused = await server.manager('POST', `/folders/${folder}/signed-urls`, body)
  t.equal(refused.status, 400)
  t.match((await refused.json()) as Answer, { code: 'validation_failed', field: 'bytesPerSecond' })
})
