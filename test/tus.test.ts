import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import t, { type Test } from 'tap'
import { Upload, type UploadOptions } from 'tus-js-client'
import { requestIdHeader } from '../plugins/request-id.ts'
import { startCuttingProxy } from './cutting-proxy.ts'
import { type Answer, eventually, type Files, type Server, startServer, temporaryDirectory } from './server.ts'

type Headers = Record<string, string>

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

async function signTus(files: Files, path: string, more: object = {}): Promise<string> {
  const body = { operation: 'upload', paths: [path], ...more }
  return (await files.server.ask('POST', `/folders/${files.folder}/signed-urls`, body)).signedUrls[0].tusUrl
}

interface TusAnswer {
  status: number
  offset: string | null
  headers: globalThis.Headers
  code?: string
}

/** One request of the protocol; every answer has its version and the request ID. */
async function tus(method: string, url: string, headers: Headers = {}, body?: string | Uint8Array): Promise<TusAnswer> {
  const requestId = `tus-${Math.random()}`
  const response = await fetch(url, {
    method,
    headers: { 'tus-resumable': '1.0.0', [requestIdHeader]: requestId, ...headers },
    ...(body !== undefined && { body: body as Uint8Array<ArrayBuffer> }),
  })
  const text = await response.text()
  const answer: Answer = text === '' ? {} : JSON.parse(text)
  t.equal(response.headers.get(requestIdHeader), requestId, `${method} ${response.status} has the request ID`)
  t.equal(response.headers.get('tus-resumable'), '1.0.0', `${method} ${response.status} has the version`)
  return {
    status: response.status,
    headers: response.headers,
    offset: response.headers.get('upload-offset'),
    ...(answer.code && { code: answer.code }),
  }
}

const chunkType = { 'content-type': 'application/offset+octet-stream' }

async function create(url: string, length: number, headers: Headers = {}): Promise<string> {
  const answer = await tus('POST', url, { 'upload-length': `${length}`, ...headers })
  t.equal(answer.status, 201)
  return answer.headers.get('location')!
}

function patch(url: string, offset: number, body: string | Uint8Array, headers: Headers = {}): Promise<TusAnswer> {
  return tus('PATCH', url, { ...chunkType, 'upload-offset': `${offset}`, ...headers }, body)
}

async function assertNothingLeft(t: Test, server: Server, folder: string): Promise<void> {
  await eventually(async () => (await server.openFiles()).length === 0)
  t.same(await server.staged(), [])
  t.same(await readdir(join(server.dataDir, 'volumes/default/uploads')), [], 'no bytes are left')
  // Room that is still set aside would be in the way of what just fits.
  const { usage } = await server.ask('GET', `/folders/${folder}`)
  await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: usage.bytes + 1000, files: usage.files + 1 } })
  const url = await server.sign(folder, 'fits', { operation: 'upload' })
  const response = await fetch(url, { method: 'PUT', body: new Uint8Array(1000) })
  t.match([response.status, await response.json()], [201, {}], 'no room is set aside')
  await server.ask('POST', `/folders/${folder}/files/delete`, { paths: ['fits'] })
  await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: null, files: null } })
}

/** A whole upload by the client that browsers use. */
function upload(content: Buffer, options: UploadOptions): Promise<Upload> {
  return new Promise((resolve, reject) => {
    const retryDelays = Array(5000).fill(30)
    const onSuccess = () => resolve(client)
    const client = new Upload(content, { retryDelays, onError: reject, onSuccess, ...options })
    client.start()
  })
}

t.test('the protocol', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_MAX_BYTES: '1000000' } })
  const files = await server.files()
  const url = await signTus(files, 'some/place/file.txt')
  const file = join(files.mount, 'some/place/file.txt')

  await t.test('OPTIONS', async (t) => {
    for (const headers of [
      {},
      { origin: 'https://app.example', 'access-control-request-method': 'PATCH' },
    ] as Headers[]) {
      const answer = await tus('OPTIONS', url, headers)
      t.equal(answer.status, 204)
      t.equal(answer.headers.get('tus-version'), '1.0.0')
      t.equal(answer.headers.get('tus-max-size'), '1000000')
      t.match(answer.headers.get('tus-extension'), /creation-with-upload.*checksum.*concatenation/)
      t.match(answer.headers.get('tus-checksum-algorithm'), 'sha1')
    }
  })

  await t.test('in two parts', async (t) => {
    const metadata = 'filename aMOpbGxv,filetype dGV4dC9wbGFpbg==,empty'
    const location = await create(url, 11, { 'upload-metadata': metadata })
    t.match(location, new RegExp(`^${server.url}/upload/tus/[0-9a-f-]+\\?token=[\\w-]{43}$`))
    t.match(await patch(location, 0, 'hello '), { status: 204, offset: '6' })
    const head = await tus('HEAD', location)
    t.match(head, { status: 200, offset: '6' })
    t.equal(head.headers.get('upload-length'), '11')
    t.equal(head.headers.get('upload-metadata'), metadata)
    t.equal(head.headers.get('cache-control'), 'no-store')
    t.ok(Date.parse(head.headers.get('upload-expires')!) > Date.now() + 80_000_000)
    t.same(await readdir(files.mount), [], 'nothing is visible yet')

    t.match(await patch(location, 6, 'world'), { status: 204, offset: '11' })
    t.equal(await readFile(file, 'utf8'), 'hello world')
    t.same(await files.usage(), { files: 1, bytes: 11 })
    const done = await tus('HEAD', location)
    t.match(done, { status: 200, offset: '11' })
    t.equal(
      done.headers.get('repr-digest'),
      `sha-256=:${Buffer.from(sha256(Buffer.from('hello world')), 'hex').toString('base64')}:`,
    )
    t.match(await patch(location, 11, 'more'), { status: 403, code: 'upload_finished' })
    const line = await server.logged((line) => line.msg === 'upload completed')
    t.match(line, { path: 'some/place/file.txt', size: 11, sha256: sha256(Buffer.from('hello world')) })
    t.ok(line.upload_id && line.origin_request_id)
    t.notMatch(server.rawLines().join(), location.split('token=')[1]!, 'its token is not logged')
    t.match(await tus('DELETE', location), { status: 204 })
    t.equal(await readFile(file, 'utf8'), 'hello world', 'the file stays')
  })

  await t.test('created with its first bytes', async (t) => {
    const started = await tus('POST', url, { ...chunkType, 'upload-length': '5' }, 'he')
    t.match(started, { status: 201, offset: '2' })
    t.match(await patch(started.headers.get('location')!, 2, 'llo'), { status: 204, offset: '5' })
    t.match(await tus('POST', url, { ...chunkType, 'upload-length': '3' }, 'all'), { status: 201, offset: '3' })
    t.equal(await readFile(file, 'utf8'), 'all')
    t.match(await tus('POST', url, { 'upload-length': '0' }), { status: 201, offset: '0' })
    t.equal(await readFile(file, 'utf8'), '')
  })

  await t.test('with a length that follows', async (t) => {
    const started = await tus('POST', url, { 'upload-defer-length': '1' })
    const location = started.headers.get('location')!
    t.equal((await tus('HEAD', location)).headers.get('upload-defer-length'), '1')
    t.match(await patch(location, 0, 'hello'), { status: 204, offset: '5' })
    t.match(await patch(location, 5, '', { 'upload-length': '4' }), { status: 413 })
    t.match(await patch(location, 5, ' you', { 'upload-length': '9' }), { status: 204, offset: '9' })
    t.equal(await readFile(file, 'utf8'), 'hello you')
  })

  await t.test('with checksums', async (t) => {
    const location = await create(url, 10)
    const crc = Buffer.alloc(4)
    crc.writeUInt32BE(crc32('56'))
    const hash = (algorithm: string, text: string) =>
      `${algorithm} ${createHash(algorithm).update(text).digest('base64')}`
    t.match(await patch(location, 0, '01', { 'upload-checksum': hash('sha1', 'xx') }), {
      status: 460,
      code: 'checksum_mismatch',
    })
    t.match(await tus('HEAD', location), { offset: '0' }, 'the bytes are discarded')
    const checksums = [hash('sha1', '01'), hash('sha256', '23'), hash('md5', '45'), `crc32 ${crc.toString('base64')}`]
    t.match(await patch(location, 0, '01', { 'upload-checksum': checksums[0]! }), { status: 204, offset: '2' })
    t.match(await patch(location, 2, '23', { 'upload-checksum': checksums[1]! }), { status: 204, offset: '4' })
    t.match(await patch(location, 4, 'xx', { 'upload-checksum': checksums[2]! }), { status: 460 })
    t.match(await patch(location, 4, '4'), { status: 204, offset: '5' })
    t.match(await patch(location, 5, '56', { 'upload-checksum': checksums[3]! }), { status: 204, offset: '7' })
    for (const bad of ['sha1', 'sha1 ', 'sha1 %%', 'unknown AAAA', 'sha1 AAAA AAAA']) {
      t.match(await patch(location, 7, '7', { 'upload-checksum': bad }), { status: 400, code: 'invalid_header' }, bad)
    }
    t.match(await patch(location, 7, '789'), { status: 204, offset: '10' })
    const content = await readFile(file)
    t.equal(content.toString(), '0123456789')
    t.match(await server.logged((line) => line.msg === 'upload completed' && line.size === 10), {
      sha256: sha256(content),
    })
  })

  await t.test('ended by the client', async (t) => {
    const location = await create(url, 10)
    await patch(location, 0, 'hello')
    t.match(await tus('DELETE', location), { status: 204 })
    for (const method of ['HEAD', 'DELETE']) t.equal((await tus(method, location)).status, 404)
    t.match(await patch(location, 5, 'x'), { status: 404, code: 'upload_not_found' })
  })

  await t.test('of parts', async (t) => {
    const part = async (text: string) => {
      const location = await create(url, text.length, { 'upload-concat': 'partial' })
      t.equal((await patch(location, 0, text)).offset, `${text.length}`)
      t.equal((await tus('HEAD', location)).headers.get('upload-concat'), 'partial')
      return location
    }
    const parts = [await part('hello '), await part('new '), await part('world')]
    const urls = [parts[0], parts[1]!.slice(server.url.length), parts[2]].join(' ')
    const unfinished = await create(url, 3, { 'upload-concat': 'partial' })
    const finals: [number, string][] = [
      [409, `final;${urls} ${unfinished}`],
      [404, `final;${urls}x`],
      [401, `final;${urls.split('?')[0]}`],
      [400, `final;${parts[0]} ${parts[0]}`],
      [400, 'final;'],
      [400, 'final;/elsewhere'],
      [400, 'whatever'],
    ]
    for (const [status, concat] of finals) {
      t.equal((await tus('POST', url, { 'upload-concat': concat })).status, status, concat.slice(0, 30))
    }
    const final = await tus('POST', url, { 'upload-concat': `final;${urls}` })
    t.match(final, { status: 201, offset: '15' })
    t.equal(await readFile(file, 'utf8'), 'hello new world')
    const location = final.headers.get('location')!
    t.match((await tus('HEAD', location)).headers.get('upload-concat'), /^final;/)
    t.match(await patch(location, 15, 'x'), { status: 403 })
    t.equal((await tus('HEAD', parts[0]!)).status, 404, 'the parts are gone')
    t.equal((await tus('DELETE', unfinished)).status, 204)
  })

  await t.test('by X-HTTP-Method-Override', async (t) => {
    const location = await create(url, 2)
    const override = (method: string, more: Headers = {}, body?: string) =>
      tus('POST', location, { 'x-http-method-override': method, ...more }, body)
    t.match(await override('PATCH', { ...chunkType, 'upload-offset': '0' }, 'h'), { status: 204, offset: '1' })
    t.match(await override('HEAD'), { status: 200, offset: '1' })
    t.match(await override('PUT'), { status: 400 })
    t.match(await override('DELETE'), { status: 204 })
  })

  await t.test('what is refused', async (t) => {
    const location = await create(url, 10)
    const other = await signTus(files, 'b', { maxBytes: 5 })
    const download = (await server.sign(files.folder, 'a')).split('token=')[1]
    const refusals: [number, string, Promise<TusAnswer>][] = [
      [412, 'tus_version_unsupported', tus('POST', url, { 'tus-resumable': '0.2.2', 'upload-length': '1' })],
      [412, 'tus_version_unsupported', tus('PATCH', location, { 'tus-resumable': '' })],
      [401, 'token_required', tus('POST', url.split('?')[0]!, { 'upload-length': '1' })],
      [401, 'token_invalid', tus('POST', `${url}x`, { 'upload-length': '1' })],
      [403, 'token_not_for_this', tus('POST', url.replace(/=.*/, `=${download}`), { 'upload-length': '1' })],
      [400, 'invalid_header', tus('POST', url)],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '-1' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '1', 'upload-defer-length': '1' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-defer-length': '2' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '1', 'upload-metadata': 'a %%' })],
      [400, 'invalid_header', tus('POST', url, { 'upload-length': '1', 'upload-metadata': 'a AAAA,a AAAA' })],
      [413, 'file_too_large', tus('POST', url, { 'upload-length': '1000001' })],
      [413, 'file_too_large', tus('POST', other, { 'upload-length': '6' })],
      [415, 'unsupported_media_type', tus('POST', url, { 'upload-length': '1', 'content-type': 'text/plain' }, 'x')],
      [401, 'token_required', patch(location.split('?')[0]!, 0, 'x')],
      [404, 'upload_not_found', patch(`${location}x`, 0, 'x')],
      [404, 'upload_not_found', patch(location.replace(/tus\/.{8}/, 'tus/00000000'), 0, 'x')],
      [400, 'validation_failed', patch(location.replace(/tus\/.{8}/, 'tus/x'), 0, 'x')],
      [409, 'upload_offset_mismatch', patch(location, 1, 'x')],
      [400, 'invalid_header', patch(location, -1, 'x')],
      [400, 'invalid_header', tus('PATCH', location, chunkType, 'x')],
      [
        415,
        'unsupported_media_type',
        tus('PATCH', location, { 'upload-offset': '0', 'content-type': 'text/plain' }, 'x'),
      ],
      [400, 'invalid_header', patch(location, 0, 'x', { 'upload-length': '11' })],
      [413, 'file_too_large', patch(location, 0, 'elevenbytes')],
    ]
    for (const [status, code, answer] of refusals) t.match(await answer, { status, code }, `${status} ${code}`)
    t.match(await tus('HEAD', location), { offset: '0' })
    const deferred = (await tus('POST', other, { 'upload-defer-length': '1' })).headers.get('location')!
    t.match(await patch(deferred, 0, 'sixsix'), { status: 413, code: 'file_too_large' })
    for (const upload of [location, deferred]) await tus('DELETE', upload)
  })
  await assertNothingLeft(t, server, files.folder)
})

t.test('the quota', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 1000 } })
  const [a, b] = [await signTus(files, 'a'), await signTus(files, 'b')]
  const full = { status: 507, code: 'quota_exceeded' }
  const first = await create(a, 600)
  t.match(await tus('POST', b, { 'upload-length': '401' }), full)
  const deferred = (await tus('POST', b, { 'upload-defer-length': '1' })).headers.get('location')!
  t.match(await patch(deferred, 0, new Uint8Array(401)), full)
  t.match(await patch(deferred, 0, new Uint8Array(400)), { status: 204 })
  t.match(await patch(deferred, 400, new Uint8Array(1)), full)
  t.match(await patch(first, 0, new Uint8Array(600)), { status: 204 })
  t.same(await files.usage(), { files: 1, bytes: 600 })
  t.match(await patch(deferred, 400, '', { 'upload-length': '400' }), { status: 204 })
  t.same(await files.usage(), { files: 2, bytes: 1000 })
  const again = await create(a, 600)
  t.match(await patch(again, 0, new Uint8Array(600)), { status: 204 }, 'what replaces needs no room')
  t.same(await files.usage(), { files: 2, bytes: 1000 })
  await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['a', 'b'] })
  await assertNothingLeft(t, server, files.folder)
})

t.test('a second request makes the first one let go', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const location = await create(await signTus(files, 'a'), 1_000_000)
  const { hostname, port, pathname, search } = new URL(location)
  const content = randomBytes(1_000_000)
  const socket = connect(Number(port), hostname)
  const head = ['Host: x', 'Tus-Resumable: 1.0.0', `Content-Type: ${chunkType['content-type']}`, 'Upload-Offset: 0']
  socket.write(`PATCH ${pathname}${search} HTTP/1.1\r\n${head.join('\r\n')}\r\nContent-Length: 1000000\r\n\r\n`)
  socket.write(content.subarray(0, 300_000))
  await sleep(300)
  const answered = once(socket, 'data')
  const offset = Number((await tus('HEAD', location)).offset)
  t.equal(offset, 300_000, 'and what it has is not lost')
  t.match(String((await answered)[0]), /^HTTP\/1.1 409[\s\S]*upload_interrupted/)
  t.match(await patch(location, offset, content.subarray(offset)), { status: 204, offset: '1000000' })
  t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
  socket.destroy()
  await assertNothingLeft(t, server, files.folder)
})

t.test('expiry', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_TTL_SECONDS: '2', UPLOAD_CLEANUP_INTERVAL_SECONDS: '4' } })
  const files = await server.files()
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 1000 } })
  const url = await signTus(files, 'a')
  const location = await create(url, 900)
  await patch(location, 0, 'hello')
  t.match(await tus('POST', url, { 'upload-length': '900' }), { status: 507 })
  const seen = new Set<number>()
  await eventually(async () => {
    const { status } = await tus('HEAD', location)
    seen.add(status)
    return status === 404
  })
  t.ok(seen.has(200))
  const id = new URL(location).pathname.split('/').at(-1)
  t.match(await server.logged((line) => line.msg === 'expired upload removed'), { upload_id: id, bytes: 5 })
  await assertNothingLeft(t, server, files.folder)

  const late = await create(url, 10)
  await eventually(async () => (await tus('HEAD', late)).status !== 200)
  t.match([404, 410].includes((await patch(late, 0, 'x')).status), true)
})

t.test('a vfolder that is deleted takes its uploads with it', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const location = await create(await signTus(files, 'a'), 10)
  await patch(location, 0, 'hello')
  await server.ask('DELETE', `/folders/${files.folder}`)
  await eventually(async () => (await patch(location, 5, 'world')).status === 404)
  await eventually(async () => (await readdir(join(server.dataDir, 'volumes/default/uploads'))).length === 0)
})

t.test('tus-js-client, 100 at once', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const contents = Array.from({ length: 100 }, () => randomBytes(200_000))
  await Promise.all(
    contents.map(async (content, index) =>
      upload(content, { endpoint: await signTus(files, `file-${index}`), chunkSize: 70_000 }),
    ),
  )
  for (const [index, content] of contents.entries()) {
    if (sha256(await readFile(join(files.mount, `file-${index}`))) !== sha256(content)) t.fail(`file-${index}`)
  }
  t.same(await files.usage(), { files: 100, bytes: 20_000_000 })
  await assertNothingLeft(t, server, files.folder)
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
  const env = { PORT: `${port}`, UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  let server = await startServer(t, { dataDir, env })
  const files = await server.files()
  const content = randomBytes(60_000_000)
  for (const [round, chunkSize] of [
    [1, 2_000_000],
    [2, Number.POSITIVE_INFINITY],
    [3, 500_000],
  ] as const) {
    let done = false
    const endpoint = await signTus({ ...files, server } as Files, `file-${round}`)
    const location = await create(endpoint, content.length)
    const uploading = upload(content, { endpoint, uploadUrl: location, chunkSize }).finally(() => {
      done = true
    })
    let kills = 0
    while (!done && kills < 8) {
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
  t.match(await server.ask('GET', `/folders/${files.folder}`), { usage: { files: 3, bytes: 180_000_000 } })
  await eventually(async () => (await server.staged()).length === 0)
  await assertNothingLeft(t, server, files.folder)
})
