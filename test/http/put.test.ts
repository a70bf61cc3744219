import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { open, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { startCuttingProxy } from '../cutting-proxy.ts'
import { type Answer, eventually, type Files, type Server, startServer, temporaryDirectory } from '../server.ts'
import { server } from '../shared-server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)

function digest(algorithm: string, content: string | Uint8Array): string {
  return createHash(algorithm).update(content).digest('base64')
}

function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

const sign = (files: Files, path: string, more: object = {}) =>
  files.server.sign(files.folder, path, { operation: 'upload', ...more })

async function put(url: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) {
  const requestId = `put-${Math.random()}`
  const response = await fetch(url, { method: 'PUT', body, headers: { [requestIdHeader]: requestId, ...headers } })
  const answer: Answer = await response.json()
  t.equal(response.headers.get(requestIdHeader), requestId, `${response.status} has the request ID`)
  return { status: response.status, headers: response.headers, answer }
}

/** The body is sent in chunks: without Content-Length. */
async function putChunked(url: string, chunks: Uint8Array[], headers: Record<string, string> = {}): Promise<Response> {
  const body = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk)
      controller.close()
    },
  })
  return fetch(url, { method: 'PUT', body, duplex: 'half', headers } as RequestInit)
}

async function assertNothingLeft(t: Test, server: Server): Promise<void> {
  await eventually(async () => (await server.staged()).length === 0 && (await server.openFiles()).length === 0)
  t.pass('nothing is staged or open')
}

t.test('a file by a signed URL', async (t) => {
  const files = await server.files()
  const url = await sign(files, 'some/place/ünï 100%.bin')
  const file = join(files.mount, 'some/place/ünï 100%.bin')

  await t.test('is new', async (t) => {
    const content = new Uint8Array(randomBytes(5_000_000))
    const { status, headers, answer } = await put(url, content, { 'content-type': 'multipart/form-data; boundary=x' })
    t.equal(status, 201)
    t.same(answer, { path: 'some/place/ünï 100%.bin', size: content.length, sha256: sha256(content) })
    t.equal(headers.get('etag'), `"${(await files.stat(encodeURIComponent('some/place/ünï 100%.bin'))).etag}"`)
    t.equal(sha256(await readFile(file)), sha256(content))
    t.same(await files.usage(), { files: 1, bytes: 5_000_000 })
  })

  await t.test('is replaced, whatever its media type, and counted once', async (t) => {
    for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded', 'a/b; c="d"']) {
      t.match(await put(url, type, { 'content-type': type }), { status: 200, answer: { size: type.length } })
      t.equal(await readFile(file, 'utf8'), type)
    }
    t.same(await files.usage(), { files: 1, bytes: 10 })
  })

  await t.test('is empty', async (t) => {
    t.match(await put(url, ''), { status: 200, answer: { size: 0, sha256: sha256('') } })
  })

  await t.test('comes in chunks', async (t) => {
    const response = await putChunked(url, [Buffer.from('hello '), Buffer.from('world')])
    t.match(await response.json(), { size: 11, sha256: sha256('hello world') })
  })

  await t.test('is logged with both request IDs', async (t) => {
    const { request_id } = await server.logged(
      (line) => line.msg === 'request completed' && line.origin_request_id !== undefined,
    )
    t.ok(request_id)
    t.notMatch(server.rawLines().join(), url.split('token=')[1]!, 'and without the token')
  })
  await assertNothingLeft(t, server)
})

t.test('digests', async (t) => {
  const files = await server.files()
  const url = await sign(files, 'a')
  const good = digest('sha256', 'hello')
  const accepted = [
    `sha-256=:${good}:`,
    `sha-512=:${digest('sha512', 'hello')}:`,
    `md5=:AAAA:, sha-256=:${good}:`,
    `unixsum=:AAAA:`,
    `sha-256=:${good}:;a=b, sha-512=:${digest('sha512', 'hello')}:`,
  ]
  const refused: [code: string, value: string][] = [
    ['digest_mismatch', `sha-256=:${digest('sha256', 'other')}:`],
    ['digest_mismatch', `sha-256=:${good}:, sha-512=:${digest('sha512', 'other')}:`],
    ['invalid_header', 'sha-256'],
    ['invalid_header', `sha-256=${good}`],
    ['invalid_header', 'sha-256=:AAAA:'],
    ['invalid_header', `sha-256=:${good.slice(0, -1)}:`],
    ['invalid_header', `sha-256=:${good}:,`],
    ['invalid_header', ''],
  ]
  for (const header of ['content-digest', 'repr-digest']) {
    for (const [code, value] of refused) {
      t.match(await put(url, 'hello', { [header]: value }), { status: 400, answer: { code } }, `${header}: ${value}`)
      t.same(await readdir(files.mount), [], 'nothing is there')
    }
  }
  for (const header of ['content-digest', 'repr-digest']) {
    for (const value of accepted) t.match(await put(url, 'hello', { [header]: value }), { status: /20[01]/ }, value)
  }
  t.match(await put(url, 'other', { 'content-digest': `sha-256=:${good}:` }), { answer: { code: 'digest_mismatch' } })
  t.equal(await readFile(join(files.mount, 'a'), 'utf8'), 'hello', 'the old file stays')
  await assertNothingLeft(t, server)
})

t.test('preconditions', async (t) => {
  const files = await server.files()
  const url = await sign(files, 'a')
  const failed = { status: 412, answer: { code: 'precondition_failed' } }

  t.match(await put(url, 'x', { 'if-match': '*' }), failed)
  const { status, headers } = await put(url, 'first', { 'if-none-match': '*' })
  t.equal(status, 201)
  const etag = headers.get('etag')!
  t.match(await put(url, 'x', { 'if-none-match': '*' }), failed)
  t.match(await put(url, 'x', { 'if-none-match': etag }), failed)
  t.match(await put(url, 'x', { 'if-match': '"other"' }), failed)
  t.match(await put(url, 'x', { 'if-match': `W/${etag}` }), failed)
  t.match(await put(url, 'second', { 'if-match': `"other", ${etag}` }), { status: 200 })
  t.match(await put(url, 'x', { 'if-match': etag }), failed)
  t.match(await put(url, 'third', { 'if-none-match': etag }), { status: 200 })
  t.equal(await readFile(join(files.mount, 'a'), 'utf8'), 'third')

  await utimes(join(files.mount, 'a'), 1_000_000_000, 1_000_000_000)
  const since = (seconds: number) => ({ 'if-unmodified-since': new Date(seconds * 1000).toUTCString() })
  t.match(await put(url, 'x', since(999_999_999)), failed)
  t.match(await put(url, 'x', { ...since(999_999_999), 'if-match': '*' }), { status: 200 }, 'which If-Match overrules')
  await utimes(join(files.mount, 'a'), 1_000_000_000, 1_000_000_000)
  t.match(await put(url, 'fourth', since(1_000_000_000)), { status: 200 })
  await t.test('one that cannot be read, or is given twice, overwrites nothing', async (t) => {
    const refused = (field: string) => ({ status: 400, answer: { code: 'invalid_header', field, in: 'headers' } })
    for (const value of ['abc', '"a" "b"', '*, "a"', ',*,', '"a"*', 'W/', '"a', "'a'", ',', 'W/"a", b']) {
      for (const field of ['if-match', 'if-none-match']) {
        t.match(await put(url, 'x', { [field]: value }), refused(field), `${field}: ${value}`)
      }
    }
    for (const value of ['yesterday', '0', '2024-01-01T00:00:00Z', 'Sun, 06 Nov 1994 08:49:37 +0100']) {
      t.match(await put(url, 'x', { 'if-unmodified-since': value }), refused('if-unmodified-since'), value)
    }
    const { hostname, port, pathname, search } = new URL(url)
    const date = new Date().toUTCString()
    const head = `PUT ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: close\r\nContent-Length: 1\r\n`
    const twice = `If-Unmodified-Since: ${date}\r\nIf-Unmodified-Since: ${date}\r\n\r\nx`
    t.equal((await server.raw(head + twice)).status, 400)
    t.equal((await server.raw(`${head}If-None-Match: *\r\nIf-None-Match: *\r\n\r\nx`)).status, 400)
    t.equal(await readFile(join(files.mount, 'a'), 'utf8'), 'fourth')
    t.match(
      await put(url, 'fifth', { 'if-none-match': ' ,, "x" ,W/"y",, ' }),
      { status: 200 },
      'empty elements are none',
    )
  })

  await t.test('a PUT with no length and no chunks empties no file', async (t) => {
    const { hostname, port, pathname, search } = new URL(url)
    const answer = await server.raw(
      `PUT ${pathname}${search} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: close\r\n\r\n`,
    )
    t.equal(answer.status, 411)
    t.match(JSON.parse(answer.body), { code: 'length_required' })
    t.equal(await readFile(join(files.mount, 'a'), 'utf8'), 'fifth')
  })
  t.match(await put(await sign(files, 'new'), 'x', since(0)), { status: 201 }, 'nor is any where no file is')
  await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['new'] })

  await t.test('If-None-Match: * lets one of many through', async (t) => {
    const one = await sign(files, 'one')
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => putChunked(one, [Buffer.from(`${index}`)], { 'if-none-match': '*' })),
    )
    t.same(answers.map(({ status }) => status).sort(), [201, ...Array(19).fill(412)])
    t.same(await files.usage(), { files: 2, bytes: 5 + (await readFile(join(files.mount, 'one'))).length })
  })

  await t.test('a change that comes during the upload is seen', async (t) => {
    const { hostname, port, pathname, search } = new URL(url)
    for (const header of ['If-Match', 'If-Unmodified-Since']) {
      const { headers } = await put(url, 'before')
      const value = header === 'If-Match' ? headers.get('etag') : new Date(Date.now() + 60_000).toUTCString()
      const socket = connect(Number(port), hostname)
      socket.write(`PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n${header}: ${value}\r\n`)
      socket.write('Connection: close\r\n\r\nmi')
      await eventually(async () => (await server.staged()).length === 1)
      await writeFile(join(files.mount, 'a'), 'by somebody else')
      socket.write('ne')
      const [answer] = await once(socket, 'data')
      t.match(String(answer), /^HTTP\/1.1 412/, header)
      t.equal(await readFile(join(files.mount, 'a'), 'utf8'), 'by somebody else')
    }
  })
  await assertNothingLeft(t, server)
})

t.test('limits', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_MAX_BYTES: '1000000' } })
  const files = await server.files()
  const over = { status: 413, answer: { code: 'file_too_large' } }
  const url = await sign(files, 'a')
  const small = await sign(files, 'a', { maxBytes: 10 })
  const huge = await sign(files, 'a', { maxBytes: 10_000_000 })

  t.match(await put(url, new Uint8Array(1_000_001)), { ...over, answer: { maxBytes: 1_000_000 } })
  t.match(await put(huge, new Uint8Array(1_000_001)), { ...over, answer: { maxBytes: 1_000_000 } })
  t.match(await put(small, 'elevenbytes'), { ...over, answer: { maxBytes: 10 } })
  t.match(await put(small, 'ten  bytes'), { status: 201 })
  const chunked = await putChunked(url, [new Uint8Array(600_000), new Uint8Array(600_000)])
  t.match({ status: chunked.status, answer: await chunked.json() }, over)

  await t.test('of the quota', async (t) => {
    const limited = await server.createFolder({ quota: { bytes: 1000 } })
    const signed = await server.sign(limited, 'a', { operation: 'upload' })
    const full = { status: 507, answer: { code: 'quota_exceeded', quota: 1000 } }
    t.match(await put(signed, new Uint8Array(1001)), { ...full, answer: { wanted: 1001 } })
    const response = await putChunked(signed, [new Uint8Array(600), new Uint8Array(600)])
    t.match({ status: response.status, answer: await response.json() }, full)
    t.match(await put(signed, new Uint8Array(1000)), { status: 201 })
    t.match(await put(signed, new Uint8Array(999)), { status: 200 })
    t.match(await server.ask('GET', `/folders/${limited}`), { usage: { files: 1, bytes: 999 } })
  })
  await assertNothingLeft(t, server)
})

t.test('what is refused', async (t) => {
  const files = await server.files()
  await files.upload({ 'directory/file': 'hello' })
  const url = await sign(files, 'a')
  const refusals: [status: number, code: string, url: string, headers?: Record<string, string>][] = [
    [401, 'token_required', url.split('?')[0]!],
    [401, 'token_invalid', `${url}x`],
    [403, 'token_not_for_this', url.replace('/a?', '/b?')],
    [403, 'token_not_for_this', (await server.sign(files.folder, 'a')).replace('/download/', '/upload/')],
    [400, 'invalid_path', url.replace('/a?', '/a%00?')],
    [400, 'invalid_header', url, { 'content-range': 'bytes 0-1/2' }],
    [409, 'is_a_directory', await sign(files, 'directory')],
    [409, 'not_a_directory', await sign(files, 'directory/file/a')],
    [415, 'unsupported_media_type', url, { 'content-type': 'no type' }],
    [415, 'unsupported_media_type', url, { 'content-encoding': 'gzip' }],
    [415, 'unsupported_media_type', url, { 'content-encoding': 'identity, br' }],
  ]
  for (const [status, code, target, headers] of refusals) {
    t.match(await put(target, 'x', headers), { status, answer: { code } }, `${status} ${code}`)
  }
  const { answer } = await put(url, 'x', { 'content-type': 'no type' })
  t.equal(answer.detail, 'Content-Type must be a well-formed media type.')
  const coded = await put(url, 'x', { 'content-encoding': 'gzip' })
  t.equal(coded.headers.get('accept-encoding'), 'identity', 'with what would do instead')
  t.match(await put(url, 'x', { 'content-encoding': 'identity' }), { status: 201 })
  for (const coding of ['Identity', 'identity,\tIDENTITY', ', identity,', '']) {
    t.match(await put(url, 'x', { 'content-encoding': coding }), { status: 200 }, `no coding: ${coding}`)
  }
  for (const [coding, status] of Object.entries({ 'gzip, chunked': 501, 'GZIP,Chunked': 501, Chunked: 200 })) {
    const { pathname, search } = new URL(url)
    const head = `PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${requestIdHeader}: encoded\r\n`
    const coded = await server.raw(`${head}Transfer-Encoding: ${coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n`)
    t.equal(coded.status, status, coding)
    t.equal(coded.headers.get(requestIdHeader), 'encoded')
  }
  t.same(
    server.lines().filter(({ level }) => level >= 50),
    [],
    'no refusal is logged as a failure of the service',
  )
  await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['a'] })
  const expired = await sign(files, 'a', { expiresIn: 1 })
  await sleep(2100)
  t.match(await put(expired, 'x'), { status: 401, answer: { code: 'token_expired' } })
  await server.ask('DELETE', `/folders/${files.folder}`)
  t.match(await put(url, 'x'), { status: 404, answer: { code: 'vfolder_not_found' } })

  await t.test('at signing', async (t) => {
    const folder = await server.createFolder()
    for (const body of [
      { filename: 'x' },
      { disposition: 'inline' },
      { maxBytes: -1 },
      { operation: 'download', maxBytes: 1 },
    ]) {
      const whole = { operation: 'upload', paths: ['a'], ...body }
      const response = await server.manager('POST', `/folders/${folder}/signed-urls`, whole)
      t.match([response.status, await response.json()], [400, { code: 'validation_failed' }])
    }
  })
  await assertNothingLeft(t, server)
})

t.test('curl waits for 100 Continue, and is refused before it sends', needing('curl'), async (t) => {
  const server = await startServer(t, { env: { UPLOAD_MAX_BYTES: '3000000000' } })
  const files = await server.files()
  const quota = await server.createFolder({ quota: { bytes: 1_000_000_000 } })
  await files.upload({ there: 'x' })
  const directory = await temporaryDirectory(t)
  const large = join(directory, 'large')
  const handle = await open(large, 'w')
  await handle.truncate(2 * 1024 ** 3)
  await handle.close()

  const url = await sign(files, 'a')
  const refusals: [status: number, url: string, ...headers: string[]][] = [
    [401, `${url}x`],
    [412, await sign(files, 'there'), 'If-None-Match: *'],
    [412, url, 'If-Match: "x"'],
    [413, await sign(files, 'a', { maxBytes: 1_000_000 })],
    [507, await server.sign(quota, 'a', { operation: 'upload' })],
    [400, url, 'Content-Digest: x'],
    [417, url, 'Expect: the-unexpected'],
  ]
  for (const [status, target, ...headers] of refusals) {
    const options = [
      '-sS',
      '-w',
      '%{http_code} %{size_upload} %{time_total} %header{x-backend-request-id}',
      '-o',
      '/dev/null',
    ]
    const fields = headers.flatMap((header) => ['-H', header])
    const { stdout } = await run('curl', [...options, ...fields, '-T', large, target])
    const [code, sent, time, requestId] = stdout.split(' ')
    t.equal(Number(code), status)
    t.ok(requestId, 'with a request ID')
    t.ok(Number(time) < 5, `${status} after ${time} s`)
    if (status !== 417) t.equal(Number(sent), 0, `${status}: no byte was sent`)
  }

  const content = randomBytes(3_000_000)
  await writeFile(join(directory, 'fits'), content)
  const { stdout, stderr } = await run('curl', ['-sSv', '-T', join(directory, 'fits'), url])
  t.match(stderr, /HTTP\/1.1 100 Continue/)
  t.match(JSON.parse(stdout), { size: 3_000_000, sha256: sha256(content) })
  await assertNothingLeft(t, server)
})

t.test('connections cut at random points leave nothing, and the old file', async (t) => {
  const files = await server.files()
  const url = await sign(files, 'a')
  await put(url, 'old')
  const size = 4_000_000
  const proxy = await startCuttingProxy(t, { port: Number(new URL(url).port), mostBytes: size })
  for (const send of [
    () => fetch(proxy.through(url), { method: 'PUT', body: new Uint8Array(size) }),
    () => putChunked(proxy.through(url), Array(40).fill(new Uint8Array(size / 40))),
  ]) {
    const sent = await Promise.allSettled(Array.from({ length: 20 }, send))
    t.equal(sent.filter(({ status }) => status === 'rejected').length, 20, 'all were cut')
  }
  await assertNothingLeft(t, server)
  t.equal(await readFile(join(files.mount, 'a'), 'utf8'), 'old')
  t.same(await files.usage(), { files: 1, bytes: 3 })
})

t.test('100 at once', async (t) => {
  const files = await server.files()
  const contents = Array.from({ length: 100 }, () => new Uint8Array(randomBytes(300_000)))
  const answers = await Promise.all(
    contents.map(async (content, index) => put(await sign(files, `file-${index}`), content)),
  )
  t.same(
    answers.map(({ status, answer }) => [status, answer.sha256]),
    contents.map((content) => [201, sha256(content)]),
  )
  t.same(await files.usage(), { files: 100, bytes: 30_000_000 })
  await assertNothingLeft(t, server)
})
