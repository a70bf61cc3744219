import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type Server, startServer, temporaryDirectory } from '../server.ts'
import { begin, read } from '../slow-client.ts'

const plugin = fileURLToPath(new URL('../hanging-backend.ts', import.meta.url))

async function start(t: { teardown(fn: () => unknown): void }, more: object = {}): Promise<Server> {
  const root = join(await temporaryDirectory(t), 'root')
  const VOLUMES = JSON.stringify({ default: { backend: 'hanging', root, timeoutSeconds: 1, ...more } })
  return startServer(t, { env: { VOLUMES, BACKEND_PLUGINS: plugin } })
}

/** Checks that the answer says, in time, that the storage is silent. */
async function silent(t: Test, name: string, asking: () => Promise<Response>): Promise<void> {
  const started = performance.now()
  const response = await asking()
  const took = performance.now() - started
  t.equal(response.status, 503, name)
  t.match(await response.json(), { code: 'storage_unavailable', detail: 'the storage did nothing for 1 s' }, name)
  t.ok(took >= 1000 && took < 5000, `${name} took ${took} ms`)
}

t.test('what hangs in a backend of others is answered 503 in time, and told to let go', async (t) => {
  const server = await start(t)
  const folder = await server.createFolder()
  await server.upload(folder, { 'a/hangs-in-list': 'x', 'hangs-in-read': 'x' })
  const upload = (path: string) => async () =>
    fetch(await server.sign(folder, path, { operation: 'upload' }), { method: 'PUT', body: 'bytes' })

  await silent(t, 'stat', () => server.manager('GET', `/folders/${folder}/files/stat?path=hangs-in-stat`))
  await server.logged(({ msg, why }) => msg === 'asked to let go' && why === 'the storage did nothing for 1 s')
  await silent(t, 'list', () => server.manager('GET', `/folders/${folder}/files?path=a`))
  await silent(t, 'read', async () => fetch(await server.sign(folder, 'hangs-in-read')))
  await server.manager('GET', `/folders/${folder}/files/stat?path=a`)
  await silent(t, 'write', upload('hangs-in-write'))
  await silent(t, 'write, half way', upload('hangs-after-a-chunk'))
  t.match(await server.ask('GET', `/folders/${folder}`), { usage: { files: 2, bytes: 2 } })
})

t.test('a download that hangs after its headers is cut', async (t) => {
  const server = await start(t)
  const folder = await server.createFolder()
  const bytes = randomBytes(1_000_000)
  await server.upload(folder, { 'hangs-in-chunks': bytes })
  const { whole } = await read(await begin(await server.sign(folder, 'hangs-in-chunks'), 'hung'))
  t.notOk(whole)
  const failed = ({ request_id, msg }: { request_id?: string; msg: string }) =>
    request_id === 'hung' && msg === 'download failed after its headers were sent'
  t.match(await server.logged(failed), { err: { message: 'the storage did nothing for 1 s' } })
})

t.test('a slow client is not taken for a slow storage', async (t) => {
  const server = await start(t)
  const folder = await server.createFolder()
  const bytes = randomBytes(24_000_000)
  await server.upload(folder, { file: bytes })

  const download = await begin(await server.sign(folder, 'file'), 'slow')
  await sleep(3000)
  const { bytes: got, whole } = await read(download)
  t.ok(whole)
  t.ok(got.equals(bytes))

  const url = await server.sign(folder, 'sent', { operation: 'upload' })
  const uploading = request(url, { method: 'PUT', headers: { 'content-length': 10 } })
  uploading.write('begin')
  await sleep(3000)
  uploading.end('-end!')
  const status = await new Promise<number | undefined>((resolve, reject) => {
    uploading.on('error', reject).on('response', async (response) => {
      await text(response)
      resolve(response.statusCode)
    })
  })
  t.equal(status, 201)
})

t.test('a backend of others whose storage is away is spared, and used again when it is back', async (t) => {
  const server = await start(t)
  const folder = await server.createFolder()
  const stat = (path: string) => server.manager('GET', `/folders/${folder}/files/stat?path=${path}`)
  await server.upload(folder, { file: 'content' })
  for (let call = 0; call < 5; call++) {
    t.match(await (await stat('away')).json(), { code: 'storage_unavailable', detail: 'no tape' })
  }
  await server.logged(({ msg, volume, reason }) => msg === 'the storage is away' && volume === 'default' && !!reason)
  const refused = await stat('file')
  t.equal(refused.status, 503)
  t.match(await refused.json(), { code: 'storage_unavailable', detail: 'the storage is away: no tape' })
  await sleep(5100)
  t.equal((await stat('file')).status, 200)
  await server.logged(({ msg }) => msg === 'the storage is back')
})

t.test('a wrong number stops the start', async (t) => {
  await t.rejects(start(t, { timeoutSeconds: -1 }), /timeoutSeconds must be >= 0/)
  await t.rejects(start(t, { maxCalls: 0 }), /maxCalls must be >= 1/)
})
