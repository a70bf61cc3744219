import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { type HttpRequest, Upload, type UploadOptions } from 'tus-js-client'
import { startCuttingProxy } from '../cutting-proxy.ts'
import { eventually, type Files, startServer, temporaryDirectory } from '../server.ts'
import { assertNothingLeft, create, sha256, signTus, tus, upload } from '../tus.ts'

const server = await startServer(t)

t.test('tus-js-client, 40 at once', async (t) => {
  const files = await server.files()
  const contents = Array.from({ length: 40 }, () => randomBytes(200_000))
  await Promise.all(
    contents.map(async (content, index) =>
      upload(content, { endpoint: await signTus(files, `file-${index}`), chunkSize: 70_000 }),
    ),
  )
  for (const [index, content] of contents.entries()) {
    if (sha256(await readFile(join(files.mount, `file-${index}`))) !== sha256(content)) t.fail(`file-${index}`)
  }
  t.same(await files.usage(), { files: 40, bytes: 8_000_000 })
  await assertNothingLeft(t, server, files.folder)
})

t.test('tus-js-client, extension by extension', async (t) => {
  const files = await server.files()
  const content = randomBytes(1_000_000)
  const stream = () => Readable.from([content.subarray(0, 300_000), content.subarray(300_000)], { objectMode: false })
  const chunkSize = 400_000
  const checksum = `sha256 ${createHash('sha256').update(content).digest('base64')}`
  const withChecksum = (value: string) => ({
    retryDelays: [],
    onBeforeRequest(request: HttpRequest) {
      if (request.getMethod() === 'PATCH') request.setHeader('Upload-Checksum', value)
    },
  })
  const cases: [what: string, content: Buffer | Readable, options: UploadOptions][] = [
    ['a length that follows', stream(), { uploadLengthDeferred: true, chunkSize }],
    ['a creation with the first bytes', content, { uploadDataDuringCreation: true, chunkSize }],
    ['a creation with all bytes', content, { uploadDataDuringCreation: true }],
    ['both', stream(), { uploadLengthDeferred: true, uploadDataDuringCreation: true, chunkSize }],
    ['a POST in the place of PATCH', content, { overridePatchMethod: true, chunkSize }],
    ['a checksum', content, withChecksum(checksum)],
  ]
  for (const [what, source, options] of cases) {
    await upload(source, { endpoint: await signTus(files, what), ...options })
    t.ok((await readFile(join(files.mount, what))).equals(content), what)
  }
  await upload(Buffer.alloc(0), { endpoint: await signTus(files, 'empty') })
  t.equal((await readFile(join(files.mount, 'empty'))).length, 0)

  const other = await signTus(files, 'other')
  const wrong = `sha256 ${createHash('sha256').update('other').digest('base64')}`
  const refused = await upload(content, { endpoint: other, ...withChecksum(wrong) }).catch((error) => error)
  t.equal(refused.originalResponse?.getStatus(), 460)
  const started = await create(other, content.length)
  await Upload.terminate(started)
  t.match(await tus('HEAD', started), { status: 404 })
  t.notOk((await readdir(files.mount)).includes('other'))
})

t.test('tus-js-client through a connection that breaks again and again', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const content = randomBytes(20_000_000)
  const url = await signTus(files, 'a')
  const proxy = await startCuttingProxy(t, { port: Number(new URL(url).port), mostBytes: 4_000_000 })
  const endpoint = proxy.through(url)
  for (const more of [{}, { chunkSize: 3_000_000 }, { uploadDataDuringCreation: true }] as UploadOptions[]) {
    const started = await create(url, content.length)
    await upload(content, { endpoint, uploadUrl: proxy.through(started), ...more })
    t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
  }
  t.ok(proxy.cuts > 10, `${proxy.cuts} connections were cut`)
  const last = server.lines().filter((line) => line.msg === 'upload completed')
  t.same(
    last.map((line) => line.sha256),
    Array(3).fill(sha256(content)),
  )
  t.same(await files.usage(), { files: 1, bytes: 20_000_000 })
  await assertNothingLeft(t, server, files.folder)
})

t.test('tus-js-client and a server that is killed again and again', { timeout: 280_000 }, async (t) => {
  const dataDir = await temporaryDirectory(t)
  // Not one that the system gives to an outgoing connection while the server is down.
  const port = 20_000 + Math.floor(Math.random() * 10_000)
  const env = { PORT: `${port}`, LEASE_SECONDS: '2', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  let server = await startServer(t, { dataDir, env })
  const files = await server.files()
  const content = randomBytes(30_000_000)
  for (const [round, chunkSize] of [
    [1, 2_000_000],
    [2, Number.POSITIVE_INFINITY],
    [3, 500_000],
  ] as const) {
    let done = false
    // Slow enough to be met by a kill.
    const endpoint = await signTus({ ...files, server } as Files, `file-${round}`, { bytesPerSecond: 20_000_000 })
    const location = await create(endpoint, content.length)
    const uploading = upload(content, { endpoint, uploadUrl: location, chunkSize }).finally(() => {
      done = true
    })
    let kills = 0
    while (!done && kills < 3) {
      await sleep(Math.random() * 400)
      if (done) break
      await server.end('SIGKILL')
      kills++
      server = await startServer(t, { dataDir, env })
    }
    await uploading
    t.ok(kills > 0, `killed ${kills} times`)
    t.equal(sha256(await readFile(join(files.mount, `file-${round}`))), sha256(content))
  }
  t.match(await server.ask('GET', `/folders/${files.folder}`), { usage: { files: 3, bytes: 90_000_000 } })
  await eventually(async () => (await server.staged()).length === 0)
  await assertNothingLeft(t, server, files.folder)
})
