import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { type Answer, managerToken, type RawAnswer } from '../server.ts'
import { server } from '../shared-server.ts'
import { signTus } from '../tus.ts'

const auth = `Authorization: Bearer ${managerToken}\r\n`
const json = 'Content-Type: application/json\r\n'
const none = 'Content-Length: 0\r\n'
const emptyChunks = ['Transfer-Encoding: chunked\r\n', '0\r\n\r\n'] as const

/** A request without a body. */
function head(method: string, target: string, fields = ''): string {
  return `${method} ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields}\r\n`
}

function withBody(method: string, target: string, body: string, fields = ''): string {
  return head(method, target, `${fields}Content-Length: ${Buffer.byteLength(body)}\r\n`) + body
}

function problemOf(t: Test, answer: RawAnswer, what: string): Answer {
  t.match(answer.headers.get('content-type'), 'application/problem+json', what)
  return JSON.parse(answer.body)
}

function targetOf(url: string): string {
  const { pathname, search } = new URL(url)
  return pathname + search
}

const files = await server.files()
const { folder } = files
await files.upload({ 'a.txt': 'hello' })
const download = targetOf(await server.sign(folder, 'a.txt'))
const put = targetOf(await server.sign(folder, 'b.txt', { operation: 'upload' }))
const tus = targetOf(await signTus(files, 'c.txt'))
const version = 'Tus-Resumable: 1.0.0\r\n'

t.test('a header that counts once and is given twice is refused, and named', async (t) => {
  const cases: [target: string, method: string, name: string, value: string][] = [
    ['/folders', 'GET', 'Authorization', `Bearer ${managerToken}`],
    ['/folders', 'POST', 'Content-Type', 'application/json'],
    [download, 'GET', 'Range', 'bytes=0-1'],
    [download, 'GET', 'If-Range', '"x"'],
    [download, 'GET', 'If-Modified-Since', 'Sun, 06 Nov 1994 08:49:37 GMT'],
    [download, 'GET', 'If-Unmodified-Since', 'Sun, 06 Nov 1994 08:49:37 GMT'],
    [download, 'GET', 'Origin', 'https://a.example'],
    [download, 'OPTIONS', 'Access-Control-Request-Method', 'GET'],
    [put, 'PUT', 'Content-Digest', 'sha-256=:x:'],
    [put, 'PUT', 'Repr-Digest', 'sha-256=:x:'],
    [put, 'PUT', 'Content-Range', 'bytes 0-1/2'],
    [put, 'PUT', 'Expect', '100-continue'],
    [tus, 'POST', 'Tus-Resumable', '1.0.0'],
    [tus, 'POST', 'Upload-Length', '1'],
    [tus, 'POST', 'Upload-Defer-Length', '1'],
    [tus, 'POST', 'Upload-Metadata', 'a'],
    [tus, 'POST', 'Upload-Concat', 'partial'],
    [tus, 'PATCH', 'Upload-Offset', '0'],
    [tus, 'PATCH', 'Upload-Checksum', 'sha1 AAAA'],
    [tus, 'POST', 'X-HTTP-Method-Override', 'HEAD'],
    [`/jobs/${folder}/events`, 'GET', 'Last-Event-ID', '1'],
  ]
  for (const [target, method, name, value] of cases) {
    for (const second of [`${name}: ${value}`, `${name.toUpperCase()}: another`]) {
      const fields = `${name === 'Authorization' ? '' : auth}${name}: ${value}\r\n${second}\r\n`
      const answer = await server.raw(head(method, target, fields))
      const problem = problemOf(t, answer, name)
      t.match(problem, { status: 400, code: 'invalid_header', field: name.toLowerCase(), in: 'headers' }, name)
      t.match(problem.detail, /must be given once/, name)
      t.ok(answer.headers.get('x-backend-request-id'), name)
    }
  }
  const lengths = await server.raw(head('POST', '/folders', `${auth}Content-Length: 2\r\nContent-Length: 2\r\n`))
  t.equal(lengths.status, 400, 'Content-Length')
  const twoIds = await server.raw(head('GET', '/livez', 'X-Backend-Request-ID: one\r\nX-Backend-Request-ID: two\r\n'))
  t.equal(twoIds.status, 200)
  t.match(twoIds.headers.get('x-backend-request-id'), /^[0-9a-f-]{36}$/, 'two request IDs are replaced by a new one')
  const twoTraces = 'traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n'.repeat(2)
  const traced = await server.raw(head('GET', '/livez', `${twoTraces}X-Backend-Request-ID: two-traces\r\n`))
  t.equal(traced.status, 200, 'a traceparent given twice is none (W3C)')
  t.notOk(server.linesOf('two-traces').some((line) => 'trace_id' in line))
  const lists = 'Accept: text/plain\r\nAccept: application/json\r\nIf-None-Match: "x"\r\nIf-None-Match: "y"\r\n'
  t.equal((await server.raw(head('GET', download, lists))).status, 200, 'lists may come in several lines')

  const many = 'a:\r\n'.repeat(2500)
  const late = await server.raw(head('GET', '/folders', `${auth}${many}${auth}`))
  t.match(problemOf(t, late, 'behind many'), { code: 'invalid_header', field: 'authorization' })
})

t.test('a change that its call cannot make depend on a header is not made', async (t) => {
  const digest = 'sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:'
  const obsolete: [string, string][] = [
    ['Digest', digest.replaceAll(':', '')],
    ['Content-MD5', 'XUFAKrxLKna5cZ2REBfFkg=='],
  ]
  const headers: [string, string][] = [
    ['If-None-Match', '*'],
    ['If-Match', '"nope"'],
    ['If-Match', 'junk'],
    ['If-Unmodified-Since', 'Mon, 01 Jan 2001 00:00:00 GMT'],
    ['Content-Digest', digest],
    ['Repr-Digest', digest],
    ...obsolete,
  ]
  const form = '--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nnew\r\n--b--\r\n'
  const ofForm = 'Content-Type: multipart/form-data; boundary=b\r\n'
  const onlyFile = targetOf(await server.sign(folder, 'a.txt', { operation: 'upload', onlyFile: true }))
  const ofTus = `${version}Upload-Length: 3\r\nContent-Type: application/offset+octet-stream\r\n`
  const calls: [method: string, target: string, fields: string, body: string][] = [
    ['POST', `/folders/upload?folder=${folder}`, auth + ofForm, form],
    ['POST', onlyFile, ofForm, form],
    ['POST', targetOf(await signTus(files, 'a.txt')), ofTus, 'new'],
    ['POST', `/folders/${folder}/files/delete`, auth + json, '{"paths":["a.txt"]}'],
    ['POST', `/folders/${folder}/files/move`, auth + json, '{"from":"a.txt","to":"moved"}'],
    ['POST', `/folders/${folder}/files/copy`, auth + json, '{"from":"a.txt","to":"copied"}'],
    ['PATCH', `/folders/${folder}`, auth + json, '{"metadata":{"a":1}}'],
    ['DELETE', `/folders/${folder}`, auth, ''],
    ['PUT', '/quota-scopes/conditional', auth + json, '{"bytes":1}'],
  ]
  for (const [method, target, fields, body] of calls) {
    for (const [name, value] of headers) {
      const answer = await server.raw(withBody(method, target, body, `${fields}${name}: ${value}\r\n`))
      const what = `${method} ${target} with ${name}`
      const expected = { status: 400, code: 'invalid_header', field: name.toLowerCase(), detail: /must be absent/ }
      t.match(problemOf(t, answer, what), expected, what)
    }
  }
  const upload = targetOf(await server.sign(folder, 'a.txt', { operation: 'upload' }))
  for (const [name, value] of obsolete) {
    const answer = await server.raw(withBody('PUT', upload, 'new', `${name}: ${value}\r\n`))
    t.match(problemOf(t, answer, name), { status: 400, field: name.toLowerCase(), detail: /Content-Digest/ }, name)
  }
  const waiting = `${auth}${ofForm}If-None-Match: *\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n`
  const refused = await server.raw(head('POST', `/folders/upload?folder=${folder}`, waiting))
  t.equal(refused.status, 400, 'before its body is asked for')
  t.match(await files.keys('recursive=true'), [['a.txt']])
  t.match(await files.stat('a.txt'), { size: 5 })
  t.match(await server.ask('GET', `/folders/${folder}`), { metadata: {} })
  t.equal((await server.raw(head('GET', '/folders', `${auth}If-None-Match: "x"\r\n`))).status, 200, 'nothing changes')
})

t.test('a body that is not there is no error, whatever its type would be', async (t) => {
  const id = () => server.createFolder()
  const types = ['', json, 'Content-Type: text/plain\r\n']
  const calls: [number, string, () => Promise<string>][] = [
    [201, 'POST', async () => '/folders'],
    [202, 'POST', async () => `/folders/${folder}/clone`],
    [202, 'POST', async () => `/folders/${folder}/sync`],
    [200, 'PUT', async () => '/quota-scopes/someone'],
    [202, 'DELETE', async () => `/folders/${await id()}`],
    [204, 'DELETE', async () => '/quota-scopes/someone'],
    [200, 'GET', async () => '/folders'],
  ]
  for (const [status, method, path] of calls) {
    for (const type of types) {
      for (const [framing, body] of [['', ''], [none, ''], emptyChunks]) {
        if (path === calls[5]![2]) await server.ask('PUT', '/quota-scopes/someone', {})
        const answer = await server.raw(head(method, await path(), `${auth}${type}${framing}`) + body)
        t.equal(answer.status, status, `${method} ${await path()} ${type}${framing}: ${answer.body}`)
      }
    }
  }
  for (const type of ['Content-Type:\r\n', 'Content-Type: no type\r\n']) {
    t.equal((await server.raw(head('POST', '/folders', auth + type + none))).status, 201, type)
    t.equal((await server.raw(head('POST', `/folders/${folder}/sync`, auth + type))).status, 202, type)
    const some = await server.raw(withBody('POST', '/folders', '{}', auth + type))
    t.equal(some.status, 415, `${type} of something`)
  }
  const needed = await server.raw(head('POST', `/folders/${folder}/files/mkdir`, auth + json + none))
  t.match(problemOf(t, needed, 'mkdir'), { code: 'validation_failed', detail: 'body must have path' })
  const nothing = await server.raw(head('PATCH', `/folders/${folder}`, auth))
  t.match(problemOf(t, nothing, 'patch'), { code: 'validation_failed', status: 400 })
  const spaces = await server.raw(withBody('POST', '/folders', '  ', auth + json))
  t.match(problemOf(t, spaces, 'spaces'), { code: 'malformed_json' }, 'spaces are a body')
})

t.test('a body is refused by every call that takes none', async (t) => {
  const upload = await fetch(server.url + tus, {
    method: 'POST',
    headers: { 'tus-resumable': '1.0.0', 'upload-length': '3' },
  })
  const begun = targetOf(upload.headers.get('location')!)
  const calls: [string, string, string][] = [
    ['GET', '/folders', auth],
    ['GET', '/livez', ''],
    ['HEAD', '/livez', ''],
    ['DELETE', `/folders/${folder}`, auth],
    ['POST', `/folders/${folder}/sync`, auth],
    ['GET', download, ''],
    ['HEAD', begun, version],
    ['DELETE', begun, version],
    ['POST', begun, `${version}X-HTTP-Method-Override: DELETE\r\n`],
    ['DELETE', `/folders/${folder}/uploads/${randomUUID()}`, auth],
  ]
  for (const [method, target, fields] of calls) {
    for (const type of [json, '', 'Content-Type: application/offset+octet-stream\r\n']) {
      const name = `${method} ${target.split('?')[0]} ${type}`
      const whole = await server.raw(withBody(method, target, '{}', fields + type))
      t.equal(whole.status, 400, name)
      const chunks = `${fields}${type}Transfer-Encoding: chunked\r\n`
      const inChunks = await server.raw(`${head(method, target, chunks)}2\r\n{}\r\n0\r\n\r\n`)
      t.equal(inChunks.status, 400, `${name} in chunks`)
      if (method === 'HEAD') continue
      for (const answer of [whole, inChunks]) {
        t.match(problemOf(t, answer, name), { code: 'validation_failed', in: 'body', rule: /must be absent/ }, name)
      }
    }
  }
  t.equal((await server.manager('GET', `/folders/${folder}`)).status, 200, 'nothing was deleted')
  const unknown = await server.raw(withBody('DELETE', `/folders/${folder}`, '{}', json))
  t.equal(unknown.status, 401, 'the token is asked for first')
})

t.test('a coded body is refused with 415, and nothing is stored of it', async (t) => {
  const boundary = 'multipart/form-data; boundary=b'
  const form = '--b\r\nContent-Disposition: form-data; name="f"; filename="coded"\r\n\r\nx\r\n--b--\r\n'
  const offset = 'application/offset+octet-stream'
  const begun = await fetch(server.url + tus, {
    method: 'POST',
    headers: { 'tus-resumable': '1.0.0', 'upload-length': '3' },
  })
  const dir = targetOf(await server.sign(folder, 'dir', { operation: 'upload' }))
  const calls: [string, string, string, string][] = [
    ['POST', '/folders', `${auth}${json}`, '{}'],
    ['PUT', '/quota-scopes/someone', `${auth}${json}`, '{}'],
    ['POST', `/folders/upload?folder=${folder}`, `${auth}Content-Type: ${boundary}\r\n`, form],
    ['POST', dir, `Content-Type: ${boundary}\r\n`, form],
    ['PUT', put, '', 'x'],
    ['POST', tus, `${version}Upload-Length: 1\r\nContent-Type: ${offset}\r\n`, 'x'],
    [
      'PATCH',
      targetOf(begun.headers.get('location')!),
      `${version}Upload-Offset: 0\r\nContent-Type: ${offset}\r\n`,
      'x',
    ],
  ]
  for (const [method, target, fields, body] of calls) {
    const name = `${method} ${target.split('?')[0]}`
    for (const coding of ['gzip', 'identity, br', 'zstd']) {
      const answer = await server.raw(withBody(method, target, body, `${fields}Content-Encoding: ${coding}\r\n`))
      t.match(problemOf(t, answer, name), { status: 415, code: 'unsupported_media_type' }, `${name} ${coding}`)
      t.equal(answer.headers.get('accept-encoding'), 'identity', name)
    }
    const ranged = await server.raw(withBody(method, target, body, `${fields}Content-Range: bytes 0-0/2\r\n`))
    t.match(problemOf(t, ranged, name), { status: 400, code: 'invalid_header', field: 'content-range' }, name)
  }
  t.same((await server.ask('GET', `/folders/${folder}/files`)).entries.length, 1, 'nothing was stored')
  const part = (coding: string) => form.replace('\r\n\r\nx', `\r\n${coding}\r\n\r\nx`)
  const send = (body: string) =>
    server.raw(withBody('POST', `/folders/upload?folder=${folder}`, body, `${auth}Content-Type: ${boundary}\r\n`))
  for (const coding of ['Content-Transfer-Encoding: base64', 'Content-Encoding: gzip']) {
    t.match(problemOf(t, await send(part(coding)), coding), { status: 415, code: 'unsupported_media_type', field: 'f' })
  }
  for (const coding of [
    'Content-Transfer-Encoding: Binary',
    'Content-Transfer-Encoding: 8bit',
    'Content-Encoding: identity',
  ]) {
    t.equal((await send(part(coding))).status, 201, coding)
  }
  const expected = await server.raw(withBody('PUT', put, 'x', 'Expect: 100-continue, something\r\n'))
  t.match(problemOf(t, expected, 'expect'), { status: 417, code: 'expectation_failed' })
})

t.test('one rule for parameters of the query', async (t) => {
  const job = (await server.ask('POST', `/folders/${folder}/sync`)).job.id
  const calls: [string, string, string][] = [
    ['GET', '/livez', ''],
    ['GET', '/readyz', ''],
    ['GET', '/openapi.json', ''],
    ['GET', '/volumes', auth],
    ['GET', '/volumes/default', auth],
    ['GET', '/folders', auth],
    ['POST', '/folders', auth],
    ['GET', `/folders/${folder}`, auth],
    ['DELETE', `/folders/${folder}`, auth],
    ['POST', `/folders/${folder}/clone`, auth],
    ['GET', `/folders/${folder}/content/a.txt`, auth],
    ['GET', `/jobs/${job}`, auth],
    ['GET', `/jobs/${job}/events`, auth],
    ['DELETE', `/jobs/${job}`, auth],
    ['POST', tus, `${version}Upload-Length: 1\r\n`],
    ['GET', download, ''],
    ['HEAD', download, ''],
    ['PUT', put, 'Content-Length: 0\r\n'],
  ]
  const unknown: [string, string][] = [
    ['colour=red', 'colour'],
    ['dryRun', 'dryRun'],
    ['Token=x', 'Token'],
    ['__proto__=x', '__proto__'],
    ['toString=', 'toString'],
    ['a=1&a=2', 'a'],
  ]
  for (const [method, target, fields] of calls) {
    for (const [query, field] of unknown) {
      const joined = `${target}${target.includes('?') ? '&' : '?'}${query}`
      const name = `${method} ${target.split('?')[0]} ${query}`
      const answer = await server.raw(head(method, joined, fields))
      t.equal(answer.status, 400, name)
      if (method === 'HEAD') continue
      t.match(problemOf(t, answer, name), { code: 'validation_failed', field, rule: 'is not a known field' }, name)
    }
  }

  for (const query of ['limit', 'limit=', 'volume=', 'cursor=', 'volume']) {
    const answer = await server.raw(head('GET', `/folders?${query}`, auth))
    t.match(problemOf(t, answer, query), { code: 'validation_failed', rule: 'must not be empty' }, query)
  }
  for (const limit of ['0x10', '1e2', '%205', '5.0', '+5', '-0']) {
    const answer = await server.raw(head('GET', `/folders?limit=${limit}`, auth))
    t.equal(answer.status, 400, `limit=${limit}`)
  }
  for (const [kind, target] of Object.entries({ kind: '/jobs?kind=', path: `/folders/${folder}/files?path=` })) {
    const answer = await server.raw(head('GET', target, auth))
    t.match(problemOf(t, answer, kind), { status: 400, rule: 'must not be empty' }, kind)
  }
  const twice = await server.raw(head('GET', `${download}&${download.split('?')[1]}`))
  t.match(problemOf(t, twice, 'token'), { code: 'validation_failed', field: 'token', rule: 'must be given once' })
  const empty = await server.raw(head('GET', `${download.split('?')[0]}?token=`))
  t.match(problemOf(t, empty, 'token'), { status: 401, code: 'token_required' })

  for (const added of ['utm_source=mail', 'fbclid=x', 'gclid=', 'utm_id=1&utm_id=2', 'msclkid', '_gl=1*a']) {
    t.equal(
      (await server.raw(head('GET', `${download}&${added}`))).body,
      'hello',
      `${added}: what programs add to links`,
    )
    t.equal((await server.raw(head('HEAD', `${download}&${added}`))).status, 200)
    t.equal((await server.raw(head('PUT', `${put}&${added}`, none))).status < 300, true, added)
    t.equal((await server.raw(head('GET', `/folders?${added}`, auth))).status, 400, 'not to those of the manager')
  }
  t.equal((await server.raw(head('GET', '/livez?'))).status, 200, 'an empty query is none')
})

t.test('a URL that is none of ours is told before anything about its body', async (t) => {
  for (const [method, target, type] of [
    ['PUT', '/upload/x', 'text/plain'],
    ['POST', '/nowhere', 'application/json'],
    ['OPTIONS', '/nowhere', 'text/plain'],
    ['QUERY', '/nowhere', ''],
  ]) {
    const fields = `${auth}${type ? `Content-Type: ${type}\r\n` : ''}Content-Length: 2\r\n`
    const answer = await server.raw(`${head(method!, target!, fields)}hi`)
    t.match(
      problemOf(t, answer, `${method} ${target}`),
      { status: 404, code: 'route_not_found' },
      `${method} ${target}`,
    )
  }
})

t.test('a member that is given twice', async (t) => {
  const body = '{"quota":{"bytes":1,"bytes":2}}'
  const fields = `${auth}Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`
  const answer = await server.raw(head('POST', '/folders', fields) + body)
  const expected = { status: 400, code: 'validation_failed', field: 'bytes', rule: 'must be given once' }
  t.match(problemOf(t, answer, 'quota'), expected)
})
