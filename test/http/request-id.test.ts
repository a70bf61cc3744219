import { truncate } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { changeDatabase } from '../database.ts'
import { managerToken, type Server, startServer } from '../server.ts'

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const replaced = 'request ID does not fit the rule and was replaced'

/** Sends bytes as they are, and reads what comes until the server closes. */
async function raw(server: Server, bytes: string): Promise<string> {
  const { hostname, port } = new URL(server.url)
  const socket = connect(Number(port), hostname)
  socket.write(bytes)
  return text(socket)
}

function headerOf(response: string): string | undefined {
  return /^x-backend-request-id: (.*)\r$/im.exec(response)?.[1]
}

t.test('the request ID follows the work', async (t) => {
  const server = await startServer(t)
  const folder = await server.createFolder()
  await server.upload(folder, { 'small.txt': 'hello', 'large.bin': new Uint8Array(3_000_000) })
  const small = await server.sign(folder, 'small.txt')
  const large = await server.sign(folder, 'large.bin')
  const auth = { authorization: `Bearer ${managerToken}` }

  const cases: [number, string, string, RequestInit][] = [
    [200, 'a listing', `${server.url}/folders`, { headers: auth }],
    [200, 'a small download', small, {}],
    [200, 'a streamed download', large, {}],
    [206, 'a range', small, { headers: { range: 'bytes=1-2' } }],
    [206, 'a streamed range', large, { headers: { range: 'bytes=1-2000000' } }],
    [206, 'several ranges', large, { headers: { range: 'bytes=1-2,5-2000000' } }],
    [
      204,
      'a preflight',
      small,
      { method: 'OPTIONS', headers: { origin: 'http://a', 'access-control-request-method': 'GET' } },
    ],
    [304, 'not modified', small, { headers: { 'if-none-match': '*' } }],
    [400, 'a bad field', `${server.url}/folders?limit=many`, { headers: auth }],
    [400, 'a URL that cannot be decoded', `${server.url}/%zz`, {}],
    [401, 'no token', `${server.url}/folders`, {}],
    [401, 'an altered token', `${small}x`, {}],
    [404, 'no route', `${server.url}/nothing`, {}],
    [404, 'no vfolder', `${server.url}/folders/00000000-0000-4000-8000-000000000000`, { headers: auth }],
    [412, 'a precondition', small, { headers: { 'if-match': '"other"' } }],
    [
      413,
      'a large body',
      `${server.url}/folders`,
      { method: 'POST', body: `"${'x'.repeat(1_048_576)}"`, headers: { ...auth, 'content-type': 'application/json' } },
    ],
    [416, 'a range outside', small, { headers: { range: 'bytes=100-' } }],
  ]

  for (const [index, [status, what, url, init]] of cases.entries()) {
    await t.test(`${status}: ${what}`, async (t) => {
      const given = `case-${index}:given_by.the-manager`
      for (const id of [given, undefined]) {
        const headers = { ...(init.headers as Record<string, string>), ...(id && { [requestIdHeader]: id }) }
        const response = await fetch(url, { ...init, headers })
        await response.arrayBuffer()
        t.equal(response.status, status)
        const echoed = response.headers.get(requestIdHeader)!
        if (id === undefined) t.match(echoed, uuid)
        else t.equal(echoed, id)
        await server.logged(({ request_id, msg }) => request_id === echoed && msg === 'request completed')
        t.ok(server.linesOf(echoed).some((line) => line.msg === 'incoming request'))
      }
    })
  }

  await t.test('every line has it exactly once', async (t) => {
    for (const line of server.rawLines()) t.equal(line.split('"request_id":').length, 2, line)
  })

  await t.test('a download tells who signed', async (t) => {
    const signed = await server.manager(
      'POST',
      `/folders/${folder}/signed-urls`,
      { operation: 'download', paths: ['small.txt'] },
      { [requestIdHeader]: 'the-signer' },
    )
    const { signedUrls } = (await signed.json()) as { signedUrls: { url: string }[] }
    await fetch(signedUrls[0]!.url, { headers: { [requestIdHeader]: 'the-client' } }).then((response) =>
      response.text(),
    )
    const line = await server.logged((line) => line.request_id === 'the-client' && line.msg === 'request completed')
    t.equal(line.origin_request_id, 'the-signer')
  })

  await t.test('traceparent joins the lines, when it is one', async (t) => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
    const lineOf = async (id: string, traceparent: string) => {
      await fetch(`${server.url}/livez`, { headers: { [requestIdHeader]: id, traceparent } })
      return server.logged((line) => line.request_id === id && line.msg === 'request completed')
    }
    t.equal((await lineOf('traced', `00-${trace}-00f067aa0ba902b7-01`)).trace_id, trace)
    for (const [index, wrong] of [
      'nonsense',
      `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
      `ff-${trace}-00f067aa0ba902b7-01`,
    ].entries()) {
      t.equal((await lineOf(`untraced-${index}`, wrong)).trace_id, undefined)
    }
  })

  await t.test('a request that no route can be looked up for is a request like others', async (t) => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
    const fields = `traceparent: 00-${trace}-00f067aa0ba902b7-01\r\nX-Backend-Request-ID: not fit`
    for (const path of ['/%ff', '/download/%ff']) {
      const response = await raw(server, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields}\r\n\r\n`)
      const id = headerOf(response)!
      t.match(id, uuid)
      t.match(response, /^HTTP\/1\.1 400 /)
      await server.logged((line) => line.request_id === id && line.msg === 'request refused')
      const lines = server.linesOf(id)
      t.same(new Set(lines.map((line) => line.trace_id)), new Set([trace]), 'all its lines have the trace')
      t.equal(lines.filter((line) => line.msg === replaced).length, 1)
    }
  })

  await t.test('CONNECT, and an upgrade', async (t) => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
    const fields = `Host: x\r\ntraceparent: 00-${trace}-00f067aa0ba902b7-01\r\n`
    const connectTo = (id: string) =>
      `CONNECT other.example:443 HTTP/1.1\r\n${fields}X-Backend-Request-ID: ${id}\r\n\r\n`
    const answer = await raw(server, connectTo('a-connect'))
    t.match(answer, /^HTTP\/1\.1 404 /)
    t.equal(headerOf(answer), 'a-connect')
    t.match(JSON.parse(answer.slice(answer.indexOf('{'))), { code: 'route_not_found', requestId: 'a-connect' })
    await server.logged((line) => line.request_id === 'a-connect')
    t.match(server.linesOf('a-connect'), [{ msg: 'request refused', code: 'route_not_found', trace_id: trace }])
    t.equal(server.linesOf('a-connect').length, 1)

    const unfit = headerOf(await raw(server, connectTo('not fit')))!
    t.match(unfit, uuid)
    await server.logged((line) => line.request_id === unfit && line.msg === 'request refused')
    t.equal(server.linesOf(unfit).filter((line) => line.msg === replaced).length, 1)

    // Nothing here speaks another protocol, so the answer is the one that it would be without (RFC 9110, section 7.8).
    const upgrade = 'Upgrade: websocket\r\nX-Backend-Request-ID: an-upgrade\r\n'
    for (const connection of ['Upgrade, close', 'close, Upgrade']) {
      const bytes = `GET /livez HTTP/1.1\r\n${fields}Connection: ${connection}\r\n${upgrade}\r\n`
      const upgraded = await raw(server, bytes)
      t.match(upgraded, /^HTTP\/1\.1 200 /)
      t.equal(headerOf(upgraded), 'an-upgrade')
    }
    await server.logged((line) => line.request_id === 'an-upgrade' && line.msg === 'request completed')
    t.equal((await fetch(`${server.url}/livez`)).status, 200)
  })

  await t.test('an ID that breaks the rule is replaced, and that is logged once', async (t) => {
    const get = (...fields: string[]) =>
      `GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${fields.join('\r\n')}\r\n\r\n`
    const wrong = {
      empty: ['X-Backend-Request-ID:'],
      'too long': [`X-Backend-Request-ID: ${'a'.repeat(129)}`],
      '10 kB': [`X-Backend-Request-ID: ${'a'.repeat(10_000)}`],
      'with a space': ['X-Backend-Request-ID: secret value'],
      'with a tab': ['X-Backend-Request-ID: secret\tvalue'],
      'with quotes': ['X-Backend-Request-ID: "secret"'],
      'not ASCII': ['X-Backend-Request-ID: secr\u00e9t'],
      'given twice': ['X-Backend-Request-ID: secret-1', 'X-Backend-Request-ID: secret-2'],
      'a list': ['X-Backend-Request-ID: secret-1, secret-2'],
    }
    for (const [what, fields] of Object.entries(wrong)) {
      const response = await raw(server, get(...fields))
      const id = headerOf(response)!
      t.match(id, uuid, what)
      await server.logged((line) => line.request_id === id && line.msg === 'request completed')
      t.equal(server.linesOf(id).filter((line) => line.msg === replaced).length, 1, what)
    }
    t.notOk(
      server.rawLines().some((line) => line.includes('secret')),
      'the value is not in the log',
    )
    t.equal(headerOf(await raw(server, get(`X-Backend-Request-ID: ${'a'.repeat(128)}`))), 'a'.repeat(128))
  })

  await t.test('what is no HTTP request gets an answer and a line with an ID', async (t) => {
    const details: Record<string, RegExp> = {
      400: /not a request that HTTP\/1.1 allows/,
      414: /URL is over the limit of 16384 bytes/,
      431: /over the limit of 16384 bytes/,
    }
    const broken = {
      400: ['NONSENSE\r\n\r\n', 'GET / HTTP/1.1\r\nHost: x\r\nX-Backend-Request-ID: a\x01b\r\n\r\n'],
      414: [`GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`],
      431: [
        `GET / HTTP/1.1\r\nHost: x\r\nX-Large: ${'a'.repeat(20_000)}\r\n\r\n`,
        `GET /${'a'.repeat(10_000)} HTTP/1.1\r\nHost: x\r\nX-Large: ${'a'.repeat(10_000)}\r\n\r\n`,
      ],
    }
    for (const [status, requests] of Object.entries(broken)) {
      for (const bytes of requests) {
        const response = await raw(server, bytes)
        t.match(response, `HTTP/1.1 ${status} `)
        const id = headerOf(response)!
        t.match(id, uuid)
        t.match(JSON.parse(response.slice(response.indexOf('{'))), { requestId: id, detail: details[status]! })
        await server.logged((line) => line.request_id === id)
        t.equal(server.linesOf(id).length, 1)
      }
    }
  })

  await t.test('bytes that break a request off have a line with all of its fields', async (t) => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
    const fields = `Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nAuthorization: ${auth.authorization}`
    const more = `traceparent: 00-${trace}-00f067aa0ba902b7-01\r\n${requestIdHeader}: breaks-off`
    await raw(server, `POST /folders HTTP/1.1\r\n${fields}\r\n${more}\r\n\r\n1\r\n{\r\nno chunk\r\n`)
    t.match(await server.logged((line) => line.request_id === 'breaks-off' && line.msg === 'client error'), {
      code: 'bad_request',
      trace_id: trace,
    })
  })

  await t.test('an aborted request has its lines too', async () => {
    await truncate(join(await server.mountOf(folder), 'large.bin'), 2 ** 30)
    const { hostname, port, pathname, search } = new URL(large)
    const socket = connect(Number(port), hostname)
    socket.write(`GET ${pathname}${search} HTTP/1.1\r\nHost: x\r\n${requestIdHeader}: goes-away\r\n\r\n`)
    await sleep(200)
    socket.destroy()
    await server.logged((line) => line.request_id === 'goes-away' && line.msg === 'request aborted')
  })
})

t.test('an error that nobody foresaw is a 500 with the ID, and the log has the reason', async (t) => {
  const server = await startServer(t)
  await changeDatabase(server.dataDir, 'DROP TABLE vfolders')
  const response = await server.manager('GET', '/folders', undefined, { [requestIdHeader]: 'broken' })
  t.equal(response.status, 500)
  t.equal(response.headers.get(requestIdHeader), 'broken')
  t.match(await response.json(), { code: 'internal_error', requestId: 'broken', status: 500 })
  const line = await server.logged((line) => line.request_id === 'broken' && line.level === 50)
  t.match(line.err, { message: /no such table: vfolders|"vfolders" does not exist/ })
})

t.test('every storage call has it, at level debug', async (t) => {
  const server = await startServer(t, { env: { LOG_LEVEL: 'debug' } })
  const folder = await server.createFolder()
  const form = new FormData()
  for (const name of ['a', 'b']) form.append('file', new Blob(['content']), name)
  await server.manager('POST', `/folders/upload?folder=${folder}`, form, { [requestIdHeader]: 'the-upload' })
  await server.logged((line) => line.request_id === 'the-upload' && line.msg === 'request completed')
  const calls = server
    .linesOf('the-upload')
    .filter(({ msg, operation }) => msg === 'storage call done' && operation === 'write')
  // Small files are stored side by side.
  t.same(calls.map(({ operation, volume, path }) => [operation, volume, path]).toSorted(), [
    ['write', 'default', 'a'],
    ['write', 'default', 'b'],
  ])
  await server.manager('GET', `/folders/${folder}/files/stat?path=c`, undefined, { [requestIdHeader]: 'the-stat' })
  t.match(await server.logged(({ msg, path }) => msg === 'storage call failed' && path === 'c'), {
    request_id: 'the-stat',
    operation: 'stat',
  })
  const other = await server.createFolder()
  const changes: [operation: string, body: object, fields: object][] = [
    ['copy', { from: 'a', to: 'c' }, { folder, path: 'a', target: 'c' }],
    ['copy', { from: 'a', to: 'd', toFolder: other }, { folder, path: 'a', target: 'd', target_folder: other }],
    ['move', { from: 'b', to: 'e' }, { folder, path: 'b', target: 'e' }],
  ]
  const ended = (id: string, wanted: string, msg = 'storage call done') =>
    server.logged((line) => line.request_id === id && line.operation === wanted && line.msg === msg)
  for (const [index, [operation, body, fields]] of changes.entries()) {
    const id = `change-${index}`
    await server.manager('POST', `/folders/${folder}/files/${operation}`, body, { [requestIdHeader]: id })
    t.match(await ended(id, operation), { ...fields, duration_ms: Number })
  }

  const list = (id: string, query: string) =>
    server.manager('GET', `/folders/${folder}/files${query}`, undefined, { [requestIdHeader]: id })
  await list('a-list', '')
  t.match(await ended('a-list', 'listMany'), { folder, count: 3, duration_ms: Number })
  await list('a-page', '?limit=1')
  t.match(await ended('a-page', 'listMany'), { count: 2 }, 'one more tells that there are more')
  await list('no-list', '?path=nowhere')
  const failed = await ended('no-list', 'listMany', 'storage call failed')
  t.match(failed, { path: 'nowhere', count: 0, duration_ms: Number, err: Object })
  for (const line of server.rawLines()) t.equal(line.split('"request_id":').length, 2, line)
})
