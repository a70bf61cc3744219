import { execFile } from 'node:child_process'
import { linkSync } from 'node:fs'
import { cp, mkdir, rename, truncate, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { eventually, formOf, startServer, temporaryDirectory } from '../server.ts'
import { create, signTus } from '../tus.ts'

const run = promisify(execFile)

const server = await startServer(t)

t.test('garbage after a request does not get into the response that is running', async (t) => {
  const files = await server.files()
  await files.upload({ 'large.bin': 'x' })
  const size = 256 * 1024 * 1024
  await truncate(join(files.mount, 'large.bin'), size)
  const { hostname, port, pathname, search } = new URL(await server.sign(files.folder, 'large.bin'))
  const socket = connect(Number(port), hostname)
  socket.write(`GET ${pathname}${search} HTTP/1.1\r\nHost: x\r\n\r\n`)
  await sleep(200)
  socket.write('\x01garbage\r\n\r\n')
  const answer = await buffer(socket).catch(() => Buffer.alloc(0))
  const body = answer.indexOf('\r\n\r\n') + 4
  t.equal(answer.indexOf('HTTP/1.1 400'), body + size, 'it is answered behind the response')
})

t.test('a request without Host, or with two, gets an answer with an ID', async (t) => {
  for (const [status, version, hosts] of [
    [400, '1.1', ''],
    [400, '1.1', 'Host: x\r\nhost: y\r\n'],
    [400, '1.1', 'Host: x\r\nHOST: x\r\n'],
    [400, '1.0', 'Host: x\r\nHost: x\r\n'],
    [200, '1.0', ''],
    [200, '1.1', 'Host:\r\n'],
  ] as const) {
    const head = `GET /livez HTTP/${version}\r\n${hosts}${requestIdHeader}: hosts\r\nConnection: close\r\n\r\n`
    const answer = await server.raw(head)
    t.equal(answer.status, status, `${version} ${hosts}`)
    t.equal(answer.headers.get(requestIdHeader), 'hosts')
  }
})

t.test('a body that breaks off in nonsense is told of under the ID of its request', async (t) => {
  const answer = await server.raw(
    'POST /folders HTTP/1.1\r\nHost: x\r\nX-Backend-Request-ID: broken-chunk\r\nTransfer-Encoding: chunked\r\n',
    'Content-Type: application/json\r\nAuthorization: Bearer a-manager-token-for-tests\r\n\r\nZZ\r\n',
  )
  t.equal(answer.status, 400)
  t.equal(answer.headers.get('x-backend-request-id'), 'broken-chunk')
})

t.test('a token is kept out of the log however it is spelt', async (t) => {
  const files = await server.files()
  await files.upload({ 'a.txt': 'a' })
  const url = new URL(await server.sign(files.folder, 'a.txt'))
  const token = url.searchParams.get('token')!
  const encoded = token.replaceAll('.', '%2E')
  t.equal((await fetch(`${url.origin}${url.pathname}?tok%65n=${encoded}`)).status, 200)
  t.equal((await fetch(`${url.origin}/nowhere/x%3Ftoken=${token}`)).status, 404)
  await server.logged(({ msg, detail }) => msg === 'request refused' && String(detail).includes('nowhere'))
  for (const spelling of [token, encoded]) t.notOk(server.rawLines().some((line) => line.includes(spelling)))
})

t.test('so is the token of an upload, which looks like a name', async (t) => {
  const { href, pathname, search } = new URL(await create(await signTus(await server.files(), 'a'), 5))
  const token = search.slice('?token='.length)
  const encoded = encodeURIComponent(href)
  const nested = encodeURIComponent(encoded)
  const ids: string[] = []
  const ask = async (target: string) => {
    ids.push(`spelling-${ids.length}`)
    const head = `HEAD ${target} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n`
    return (await server.raw(`${head}${requestIdHeader}: ${ids.at(-1)}\r\n\r\n`)).status
  }
  t.equal(await ask(`${pathname}?%74oken=${token}`), 200)
  for (const odd of [`?%74oken=${token}&x=%zz`, `%3Ftoken=${token}`, `/${token}`, `%2f${token}`, `;token=${token}`]) {
    t.not(await ask(pathname + odd), 200)
  }
  for (const inner of [encoded, nested]) t.equal(await ask(`/x?u=${inner}`), 404)
  for (const name of ['b%20c%3F', 'x'.repeat(43)]) t.equal(await ask(`/files/${name}?token=${token}`), 404)
  const logged = await eventually(() => {
    const lines = ids.map((id) => server.linesOf(id).find(({ msg }) => msg === 'incoming request'))
    return lines.every((line) => line !== undefined) && lines
  })
  t.notOk(server.rawLines().some((line) => line.includes(token)))
  t.match(logged.at(-2), { req: { url: '/files/b%20c%3F?token=[redacted]' } }, 'the rest is logged as it was sent')
  t.match(logged.at(-1), { req: { url: `/files/${'x'.repeat(43)}?token=[redacted]` } })
})

t.test('a volume that is away is not one whose files are gone', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  await files.upload({ 'a.txt': 'a' })
  const volume = join(server.dataDir, 'volumes/default')
  await rename(volume, `${volume}.away`)
  for (const path of ['files', 'files/stat?path=a.txt', 'content/a.txt']) {
    const response = await server.manager('GET', `/folders/${files.folder}/${path}`)
    t.match(await response.json(), { status: 503, code: 'volume_unavailable' }, path)
  }
  const form = formOf({ 'b.txt': 'b' })
  const upload = await server.manager('POST', `/folders/upload?folder=${files.folder}`, form)
  t.match(await upload.json(), { status: 503, code: 'volume_unavailable' }, 'upload')
  const ready = await (await fetch(`${server.url}/readyz`)).text()
  t.notOk(ready.includes(server.dataDir), 'no path of the host')
  await rename(`${volume}.away`, volume)
  await eventually(async () => (await server.manager('GET', `/folders/${files.folder}/content/a.txt`)).status === 200)
})

t.test('a clone to a volume that is away', async (t) => {
  const root = await temporaryDirectory(t)
  const volumes = Object.fromEntries(
    ['default', 'two'].map((name) => [name, { backend: 'posix', root: join(root, name) }]),
  )
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })
  const folder = await server.createFolder()
  const clone = async () => (await server.manager('POST', `/folders/${folder}/clone`, { volume: 'two' })).json()
  await rename(join(root, 'two'), join(root, 'away'))
  t.match(await clone(), { status: 503, code: 'volume_unavailable' })
  await mkdir(join(root, 'two'))
  t.match(await clone(), { status: 503, code: 'volume_unavailable' }, 'a mount point is not the volume')
  t.equal((await server.ask('GET', '/folders')).folders.length, 1, 'nothing was begun')
})

t.test('odd entries', async (t) => {
  const files = await server.files()
  await run('mkfifo', [join(files.mount, 'fifo')])
  t.match(await files.post('move', { from: 'fifo', to: 'moved' }), [409, { code: 'not_a_file' }])
  t.equal((await run('ls', [files.mount])).stdout, 'fifo\n')
  await files.upload({ fifo: 'a file' })
  t.same(await files.usage(), { files: 1, bytes: 6 }, 'which was not counted, so the file in its place is')
  await run('mkfifo', [join(files.mount, 'other')])
  t.match(await files.post('move', { from: 'fifo', to: 'other', overwrite: true }), [200])
  t.same(await files.usage(), { files: 1, bytes: 6 })
  await files.post('delete', { paths: ['other'] })

  await files.upload({ 'a.txt': 'aaa' })
  linkSync(join(files.mount, 'a.txt'), join(files.mount, 'hard'))
  t.equal((await files.post('move', { from: 'a.txt', to: 'hard', overwrite: true }))[0], 200)
  t.same(await files.ndjson(''), ['hard'])

  let text = '{}'
  for (let level = 0; level < 6000; level++) text = `{"a":${text}}`
  const response = await fetch(`${server.url}/folders`, {
    method: 'POST',
    headers: { authorization: 'Bearer a-manager-token-for-tests', 'content-type': 'application/json' },
    body: `{"metadata":${text}}`,
  })
  t.equal(response.status, 400)
})

t.test('a client that waits for the service is not cut for standing still', async (t) => {
  const server = await startServer(t, { env: { IDLE_TIMEOUT_SECONDS: '1' } })
  const files = await server.files()
  for (let directory = 0; directory < 30; directory++) {
    await mkdir(join(files.mount, `tree/dir-${directory}`), { recursive: true })
    for (let file = 0; file < 100; file++) await writeFile(join(files.mount, `tree/dir-${directory}/${file}`), 'x')
  }
  // Until it takes longer than the idle timeout.
  for (let round = 0, took = 0; took <= 1000; round++) {
    if (round > 0)
      await cp(join(files.mount, `copy-${round - 1}`), join(files.mount, `tree/${round}`), { recursive: true })
    const started = Date.now()
    t.equal((await files.post('copy', { from: 'tree', to: `copy-${round}` }))[0], 201)
    took = Date.now() - started
  }
})

t.test('the first cleanup after a crash comes with the end of the lease, not with the next interval', async (t) => {
  const first = await startServer(t, { env: { LEASE_SECONDS: '1' } })
  await first.logged(({ kind }) => kind === 'sync-quotas')
  await first.end('SIGKILL')
  const second = await startServer(t, { dataDir: first.dataDir, env: { LEASE_SECONDS: '1' } })
  await eventually(
    () => second.lines().some(({ msg, kind }) => msg === 'job started' && kind === 'sync-quotas'),
    15_000,
  )
})
