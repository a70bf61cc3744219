import { fileURLToPath } from 'node:url'
import t from 'tap'
import { BackendAiVfolder, backendAiEnv } from '../backend-ai-clients.ts'
import { scrape } from '../metrics.ts'
import { eventually, startServer, temporaryDirectory } from '../server.ts'
import { create, patch, signTus } from '../tus.ts'

const volumes = {
  default: { backend: 'hanging', root: `${await temporaryDirectory(t)}/root`, maxCalls: 1, maxWaitingCalls: 1 },
}
const server = await startServer(t, {
  env: {
    BACKEND_PLUGINS: fileURLToPath(new URL('../hanging-backend.ts', import.meta.url)),
    VOLUMES: JSON.stringify(volumes),
    ADDRESS_REQUESTS_PER_MINUTE: '6',
    URL_REQUESTS_PER_MINUTE: '3',
    ...backendAiEnv,
    TRUSTED_PROXIES: '127.0.0.0/8, ::1',
  },
})
await server.firstCount()
const files = await server.files()
await files.upload({ 'a.txt': 'a' })

/** Downloads as a client of a proxy that tells this of where it came from. */
async function download(url: string, forwarded: string): Promise<Response> {
  const response = await fetch(url, { headers: { 'x-forwarded-for': forwarded } })
  await response.clone().text()
  return response
}

/** The statuses of so many downloads of a new URL each, from these addresses in turn. */
async function statusesFrom(addresses: string[]): Promise<number[]> {
  const statuses = []
  for (const [index, address] of addresses.entries()) {
    statuses.push((await download(await server.sign(files.folder, 'a.txt', { filename: `${index}` }), address)).status)
  }
  return statuses
}

t.test('a signed URL may be opened so often in a minute, from wherever', async (t) => {
  const url = await server.sign(files.folder, 'a.txt')
  const other = await server.sign(files.folder, 'a.txt', { filename: 'other' })
  for (let i = 0; i < 3; i++) t.equal((await download(url, `198.51.100.${i}`)).status, 200)
  const answer = await download(url, '198.51.100.9')
  t.equal(answer.status, 429)
  const after = Number(answer.headers.get('retry-after'))
  t.ok(after > 0 && after <= 60, `after ${after} s`)
  t.match(await answer.json(), { code: 'too_many_requests' })
  t.equal((await download(other, '198.51.100.9')).status, 200, 'another URL')
  t.equal((await scrape(server)).sum('storage_proxy_requests_refused_total', { reason: 'url' }), 1)
})

t.test('the requests of an upload count for the URL that has begun it', async (t) => {
  const upload = await create(await signTus(files, 'b.txt'), 4)
  t.equal((await patch(upload, 0, 'bb')).status, 204)
  t.equal((await patch(upload, 2, 'b')).status, 204)
  t.equal((await patch(upload, 3, 'b')).status, 429)
})

t.test('an address may ask so often, and cannot be made up', async (t) => {
  const made = Array.from({ length: 7 }, (_, index) => `192.0.2.${index}, 203.0.113.7, 127.0.0.3`)
  t.same(await statusesFrom(made), [200, 200, 200, 200, 200, 200, 429])
  t.same(await statusesFrom(['203.0.113.8']), [200], 'another address')
  const lines = server
    .lines()
    .filter(({ msg, req }) => msg === 'incoming request' && JSON.stringify(req).includes('203'))
  t.same(
    new Set(lines.map(({ req }) => (req as { remoteAddress: string }).remoteAddress)),
    new Set(['203.0.113.7', '203.0.113.8']),
  )
  const ofNetwork = Array.from({ length: 7 }, (_, index) => `2001:db8:0:1::${index}`)
  t.same(await statusesFrom(ofNetwork), [200, 200, 200, 200, 200, 200, 429], 'of IPv6 the network')
  t.same(await statusesFrom(['2001:db8:0:2::1']), [200])
  const guessed = await download(`${server.url}/download/${files.folder}/a.txt?token=guessed`, '203.0.113.7')
  t.equal(guessed.status, 429, 'guesses count')
  for (let i = 0; i < 10; i++) t.equal((await server.manager('GET', '/volumes')).status, 200, 'the manager may')
  t.equal((await scrape(server)).sum('storage_proxy_requests_refused_total', { reason: 'address' }), 3)
})

t.test("the tokens of Backend.AI's wire, and the addresses that use them", async (t) => {
  const vfolder = new BackendAiVfolder(server)
  await server.createFolder({ id: vfolder.folder, quotaScope: vfolder.scope })
  await server.upload(vfolder.folder, { 'a.txt': 'a' })
  const from = (address: string) => ({ 'x-forwarded-for': address, origin: 'http://ui' })
  const url = vfolder.download('a.txt')
  for (let i = 0; i < 3; i++) t.equal((await download(url, `198.51.100.3${i}`)).status, 200)
  const refused = await fetch(url, { headers: from('198.51.100.39') })
  t.equal(refused.status, 429)
  t.ok(Number(refused.headers.get('retry-after')) > 0)
  t.match(await refused.json(), { error_code: 'vfolder_access_too-many-requests' })
  t.equal((await download(vfolder.archive(['a.txt']), '198.51.100.39')).status, 200, 'another token')

  const upload = vfolder.upload('b.txt', 4)
  const headers = { ...from('198.51.100.40'), 'upload-offset': '0' }
  for (const status of [204, 409, 409, 429]) {
    t.equal((await fetch(upload, { method: 'PATCH', body: 'bbbb', headers })).status, status)
  }

  const guess = (count: number) => fetch(`${url}${count}`, { headers: from('203.0.113.30') })
  for (let i = 0; i < 6; i++) t.equal((await guess(i)).status, 400)
  const ofAddress = await guess(6)
  t.equal(ofAddress.status, 429)
  t.equal(ofAddress.headers.get('access-control-allow-origin'), '*', 'a page can read it')
  const preflight = { ...from('203.0.113.30'), 'access-control-request-method': 'GET' }
  t.equal((await fetch(url, { method: 'OPTIONS', headers: preflight })).status, 204)
})

t.test('a call for which too many wait already is refused', async (t) => {
  const stat = () => server.manager('GET', `/folders/${files.folder}/files/stat?path=hangs-in-stat`)
  const abort = new AbortController()
  const waiting = [1, 2].map(() =>
    fetch(`${server.managerUrl}/folders/${files.folder}/files/stat?path=hangs-in-stat`, {
      headers: { authorization: 'Bearer a-manager-token-for-tests' },
      signal: abort.signal,
    }).catch(() => {}),
  )
  const calls = (state: string) => ({ volume: 'default', state })
  await eventually(async () => {
    const scraped = await scrape(server)
    return ['running', 'waiting'].every((state) => scraped.sum('storage_proxy_backend_calls', calls(state)) === 1)
  })
  const answer = await stat()
  t.equal(answer.status, 503)
  t.equal(answer.headers.get('retry-after'), '5')
  t.match(await answer.json(), { code: 'too_many_calls' })
  t.equal((await scrape(server)).sum('storage_proxy_backend_calls_refused_total', { volume: 'default' }), 1)
  abort.abort()
  await Promise.all(waiting)
  await eventually(async () => (await scrape(server)).sum('storage_proxy_backend_calls', calls('waiting')) === 0)
})
