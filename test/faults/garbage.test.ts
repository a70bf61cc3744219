import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readlink, truncate } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Answer, eventually, managerToken, startServer } from '../server.ts'

const server = await startServer(t, { env: { CORS_ORIGINS: 'https://one.example,https://two.example' } })
const files = await server.files()
const { folder } = files
await files.upload({ small: 'hello', large: '' })
await truncate(join(files.mount, 'large'), 20_000_000)

const uuid = /^[0-9a-f-]{36}$/
const auth = `Authorization: Bearer ${managerToken}`
const garbage = '\x16\x03\x01 no request\r\n\r\n'

interface Received {
  status: number
  headers: Headers
  body: Buffer
}

function open(): Socket {
  const { hostname, port } = new URL(server.url)
  return connect({ host: hostname, port: Number(port), noDelay: true })
}

/** All answers on a connection, by their lengths; what is left over must be none. */
function split(bytes: Buffer): Received[] {
  const answers: Received[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf('\r\n\r\n', at)
    if (end < 0) throw new Error(`no answer: ${bytes.subarray(at, at + 100)}`)
    const [first = '', ...fields] = bytes.subarray(at, end).toString().split('\r\n')
    const headers = new Headers(fields.map((field): [string, string] => field.split(': ', 2) as [string, string]))
    at = end + 4 + Number(headers.get('content-length') ?? 0)
    const status = Number(/^HTTP\/1.1 (\d+) /.exec(first)?.[1])
    answers.push({ status, headers, body: bytes.subarray(end + 4, at) })
    if (at > bytes.length) throw new Error(`the answer ${status} is not whole`)
  }
  return answers
}

/** Sends each part in a packet of its own, and reads until the service closes. */
async function exchange(...parts: (string | Uint8Array)[]): Promise<Received[]> {
  const socket = open()
  const received = buffer(socket)
  for (const part of parts) {
    socket.write(part)
    await sleep(20)
  }
  return split(await received)
}

const problemOf = ({ body }: Received): Answer => JSON.parse(body.toString())

const get = (path: string, id: string, more = '') =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\n${auth}\r\nX-Backend-Request-ID: ${id}\r\n${more}\r\n`

function put(url: string, id: string, body: string, length: number | 'chunked' = body.length): string {
  const { pathname, search } = new URL(url)
  const coding = length === 'chunked' ? 'Transfer-Encoding: chunked' : `Content-Length: ${length}`
  return `PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\nX-Backend-Request-ID: ${id}\r\n${coding}\r\n\r\n${body}`
}

function post(path: string, id: string, body: object): string {
  const json = JSON.stringify(body)
  const fields = `Content-Type: application/json\r\nContent-Length: ${json.length}`
  return `POST ${path} HTTP/1.1\r\nHost: x\r\n${auth}\r\nX-Backend-Request-ID: ${id}\r\n${fields}\r\n\r\n${json}`
}

/** The request must be answered as if nothing had followed, and what followed by an ID of its own. */
async function check(t: Test, what: string, answers: Received[], wanted: [status: number, id: string][], last = 400) {
  t.same(
    answers.map(({ status }) => status),
    [...wanted.map(([status]) => status), last],
    what,
  )
  for (const [index, [, id]] of wanted.entries()) {
    t.equal(answers[index]?.headers.get('x-backend-request-id'), id, what)
    await server.logged((line) => line.request_id === id && line.msg === 'request completed')
    t.notOk(
      server.linesOf(id).some(({ msg }) => ['client error', 'request aborted'].includes(msg)),
      `${what}: the log blames nobody`,
    )
  }
  const end = answers.at(-1)!
  const { requestId } = problemOf(end)
  t.match(requestId, uuid, what)
  t.equal(end.headers.get('x-backend-request-id'), requestId)
  t.equal(end.headers.get('connection'), 'close')
  await server.logged((line) => line.request_id === requestId)
}

let number = 0
const nextId = () => `request-${++number}`

t.test('a complete request is answered, and the garbage behind it is refused', async (t) => {
  const upload = (name: string) => server.sign(folder, name, { operation: 'upload' })
  const large = await server.sign(folder, 'large')
  const largePath = new URL(large).pathname + new URL(large).search
  const kinds: Record<string, (id: string) => Promise<[request: string, status: number]>> = {
    'a GET': async (id) => [get('/livez', id), 200],
    'a GET of a file': async (id) => [get(`/folders/${folder}/content/small`, id), 200],
    'a large GET': async (id) => [get(largePath, id), 200],
    'a PUT': async (id) => [put(await upload(`put-${id}`), id, 'x'.repeat(1000)), 201],
    'a PUT in chunks': async (id) => [put(await upload(`put-${id}`), id, '3\r\nabc\r\n0\r\n\r\n', 'chunked'), 201],
    'a POST': async (id) => [post(`/folders/${folder}/files/mkdir`, id, { path: `dir-${id}` }), 201],
    'a refused GET': async (id) => [get('/folders/no-uuid', id), 400],
    'a URL that cannot be decoded': async (id) => [get('/download/%zz', id), 400],
  }
  const followedBy: Record<string, [string | Buffer, number]> = {
    bytes: [garbage, 400],
    binary: [Buffer.concat([Buffer.from([0]), randomBytes(100_000)]), 400],
    'a broken request': ['GET / HTTP/9.9\r\n\r\n', 400],
    'headers without end': [`GET / HTTP/1.1\r\nX-Large: ${'a'.repeat(20_000)}`, 431],
    'a CONNECT': ['CONNECT example:443 HTTP/1.1\r\nHost: example:443\r\n\r\n', 404],
  }
  for (const [what, make] of Object.entries(kinds)) {
    for (const [follower, [bytes, last]] of Object.entries(followedBy)) {
      for (const when of ['at once', 'later']) {
        const id = nextId()
        const [request, status] = await make(id)
        const parts =
          when === 'at once' ? [Buffer.concat([Buffer.from(request), Buffer.from(bytes)])] : [request, bytes]
        const answers = what === 'a HEAD' ? [] : await exchange(...parts)
        if (what !== 'a HEAD' && status < 400)
          await check(t, `${what}, then ${follower} ${when}`, answers, [[status, id]], last)
        else if (what !== 'a HEAD')
          t.same(
            answers.map((answer) => answer.status),
            [status, last],
            `${what}, then ${follower} ${when}`,
          )
        if (what === 'a large GET') t.equal(answers[0]?.body.length, 20_000_000)
        if (what.startsWith('a PUT')) t.equal((await files.stat(`put-${id}`)).size, what === 'a PUT' ? 1000 : 3)
      }
    }
  }
})

t.test('a body that is longer than it was said to be', async (t) => {
  const url = await server.sign(folder, 'long', { operation: 'upload' })
  for (const more of ['x', 'x'.repeat(5_000_000)]) {
    const id = nextId()
    const answers = await exchange(put(url, id, `hello${more}`, 5))
    await check(t, `${more.length} bytes more`, answers, [[more.length === 1 ? 201 : 200, id]])
    t.equal(await (await fetch(await server.sign(folder, 'long'))).text(), 'hello')
  }
})

t.test('several requests, and then something else', async (t) => {
  const [a, b, c] = [nextId(), nextId(), nextId()]
  const url = await server.sign(folder, 'pipelined', { operation: 'upload' })
  const content = get(`/folders/${folder}/content/large`, a)
  const first: [number, string][] = [
    [200, a],
    [201, b],
    [200, c],
  ]
  for (const [last, bytes] of [
    [400, garbage],
    [404, 'CONNECT example:443 HTTP/1.1\r\nHost: x\r\n\r\n'],
  ] as const) {
    const answers = await exchange(content + put(url, b, 'hello') + get('/livez', c) + bytes)
    if (last === 404) first[1] = [200, b]
    await check(t, `then ${last}`, answers, first, last)
    t.equal(answers[0]?.body.length, 20_000_000, 'the first answer is whole')
  }
})

t.test('a request that is not whole is refused, after the answers to those before it', async (t) => {
  const url = await server.sign(folder, 'broken', { operation: 'upload' })
  const [a, b] = [nextId(), nextId()]
  const broken = put(url, b, '5\r\nhello\r\nno chunk\r\n', 'chunked')
  for (const before of ['', get(`/folders/${folder}/content/large`, a)]) {
    const answers = await exchange(before + broken)
    t.same(
      answers.map(({ status }) => status),
      before === '' ? [400] : [200, 400],
    )
    t.match(problemOf(answers.at(-1)!), { requestId: b, code: 'bad_request', detail: /body/ })
    t.equal((await server.manager('GET', `/folders/${folder}/files/stat?path=broken`)).status, 404)
  }
  t.same(await eventually(async () => (await server.staged()).length === 0), true)
})

t.test('a body that ends early is not called nonsense', async (t) => {
  const url = await server.sign(folder, 'early', { operation: 'upload' })
  for (const [what, parts] of Object.entries({
    'of a length': [put(url, 'ends-early', 'hello', 10)],
    'in chunks': [put(url, 'ends-early', '5\r\nhello\r\n', 'chunked')],
    'in headers': ['GET / HTTP/1.1\r\nHost: x\r\n'],
  })) {
    const socket = connect({ port: Number(new URL(server.url).port), host: '127.0.0.1', allowHalfOpen: true })
    const received = buffer(socket)
    for (const part of parts) socket.write(part)
    await sleep(50)
    socket.end()
    const [answer] = split(await received)
    t.equal(answer?.status, 400, what)
    t.match(problemOf(answer!).detail, /ended before/, what)
  }
  t.equal((await server.manager('GET', `/folders/${folder}/files/stat?path=early`)).status, 404)
})

t.test('a client that goes away is not said to have sent nonsense', async (t) => {
  const url = await server.sign(folder, 'away', { operation: 'upload' })
  const socket = open()
  socket.write(put(url, 'goes-away', 'hello', 10))
  await server.logged(({ request_id }) => request_id === 'goes-away')
  await sleep(100)
  socket.resetAndDestroy()
  t.match(await server.logged(({ request_id, msg }) => request_id === 'goes-away' && msg === 'request aborted'), {
    reason: 'the client went away',
  })
  for (const line of server.linesOf('goes-away')) t.notOk(line.code === 'bad_request' || /client error/.test(line.msg))
})

t.test('what was answered early gets no second answer', async (t) => {
  const url = await server.sign(folder, 'limited', { operation: 'upload', maxBytes: 3 })
  for (const wrong of [url, `${url}x`]) {
    for (const bytes of ['no chunk\r\n', garbage]) {
      const socket = open()
      const chunks: Buffer[] = []
      socket.on('data', (chunk) => chunks.push(chunk))
      socket.write(put(wrong, nextId(), '5\r\nhello\r\n', 'chunked'))
      await once(socket, 'data')
      socket.write(bytes)
      await once(socket, 'close')
      const answers = split(Buffer.concat(chunks))
      t.equal(answers.length, 1)
      t.ok([401, 413].includes(answers[0]!.status))
    }
  }
})

t.test('what follows a request that was the last one is not answered', async (t) => {
  const answers = await exchange(get('/livez', nextId(), 'Connection: close\r\n') + garbage)
  t.same(
    answers.map(({ status }) => status),
    [200],
  )
})

t.test('a page may read the answer, where its origin is known', async (t) => {
  const { pathname, search } = new URL(await server.sign(folder, 'page', { operation: 'upload' }))
  const head = (origin: string) => `PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\nOrigin: ${origin}\r\n`
  for (const [status, rest] of [
    [431, `X-Large: ${'a'.repeat(20_000)}\r\n\r\n`],
    [400, 'No field\r\n\r\n'],
    [400, 'Transfer-Encoding: chunked\r\n\r\nno chunk\r\n'],
  ] as const) {
    for (const origin of ['https://one.example', 'https://two.example', 'https://three.example']) {
      const [answer] = await exchange(head(origin) + rest)
      t.equal(answer?.status, status)
      t.equal(answer?.headers.get('access-control-allow-origin'), /three/.test(origin) ? null : origin)
      t.match(answer?.headers.get('vary'), /origin/i)
      t.match(answer?.headers.get('access-control-expose-headers'), /x-backend-request-id/)
    }
  }
  const other = await startServer(t)
  t.equal((await other.raw('NONSENSE\r\n\r\n')).headers.get('access-control-allow-origin'), '*')
})

t.test('nothing is left open', async (t) => {
  const descriptors = `/proc/${server.process.pid}/fd`
  const count = async () => {
    const links = (await readdir(descriptors)).map((fd) => readlink(join(descriptors, fd)).catch(() => ''))
    return (await Promise.all(links)).filter((path) => path.startsWith('socket:')).length
  }
  await eventually(async () => (await count()) < 10)
  const before = await count()
  const pipelined = get(`/folders/${folder}/content/large`, 'large') + get('/livez', 'small')
  for (let round = 0; round < 20; round++) {
    const sockets = Array.from({ length: 10 }, open)
    for (const [index, socket] of sockets.entries()) {
      socket.on('error', () => {})
      // Some take no byte of the answer, and go away while both answers wait.
      if (index % 2 === 0) socket.resume()
      else socket.pause()
      socket.write(pipelined + (index % 3 === 0 ? 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n' : garbage))
    }
    await sleep(20)
    for (const [index, socket] of sockets.entries()) if (index % 2 === 1) socket.destroy()
    await Promise.all(sockets.map((socket) => (socket.closed ? undefined : once(socket, 'close'))))
  }
  t.ok(await eventually(async () => (await count()) <= before))
  t.same(await eventually(async () => (await server.openFiles()).length === 0), true)
  const ids = server.lines().filter(({ msg }) => msg === 'incoming request').length
  const ends = () => server.lines().filter(({ msg }) => msg === 'request completed' || msg === 'request aborted').length
  t.ok(await eventually(() => ends() >= ids), 'each request has its end in the log')
  t.equal(await server.end(), 0, 'and none keeps the service from its end')
})
