import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { deployedConfiguration, freePort, startNginx } from '../nginx.ts'
import { startCluster, startSharing } from '../postgres/service.ts'
import { type Answer, ended, eventually, managerToken, type Server, temporaryDirectory } from '../server.ts'
import { sha256, upload } from '../tus.ts'

// Three processes, each with a data directory of its own, on one PostgreSQL and one directory, behind nginx.
const cluster = await startCluster(t)
await cluster.query('postgres', 'create database cluster')
const listen = `127.0.0.1:${await freePort()}`
const manage = `127.0.0.1:${await freePort()}`
const root = await temporaryDirectory(t)
const env = {
  MANAGER_PORT: '0',
  PUBLIC_URL: `http://${listen}`,
  LEASE_SECONDS: '2',
  UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
}
const servers = await Promise.all([1, 2, 3].map(() => startSharing(t, { url: cluster.url('cluster'), root, env })))
const accessLog = join(await temporaryDirectory(t), 'access.log')
const proxies = servers.map((server) => ({
  clients: new URL(server.url).host,
  manager: new URL(server.managerUrl).host,
}))
await startNginx(t, `http://${listen}`, await deployedConfiguration({ proxies, listen, manage, accessLog }))

/** A call as the manager, at whichever process. */
async function ask(method: string, path: string, body: object = {}, requestId = 'a-test'): Promise<Answer> {
  const response = await fetch(`http://${manage}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${managerToken}`,
      [requestIdHeader]: requestId,
      ...(method !== 'GET' && { 'content-type': 'application/json' }),
    },
    ...(method !== 'GET' && { body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return response.json()
}

async function sign(folder: string, paths: string[], more: object = {}): Promise<Answer[]> {
  const body = { operation: 'upload', paths, ...more }
  return (await ask('POST', `/folders/${folder}/signed-urls`, body)).signedUrls
}

const mountOf = async (folder: string): Promise<string> => (await ask('GET', `/folders/${folder}/mount`)).path
const alive = () => servers.filter(({ process }) => process.exitCode === null && process.signalCode === null)
const having = (requestId: string, msg: string) =>
  alive().find((server) => server.linesOf(requestId).some((line) => line.msg === msg))

/** Room that is set aside in the database, and what holds it. */
async function setAside(): Promise<Answer> {
  const [row] = await cluster.query(
    'cluster',
    `select (select count(*) from reservations)::int + (select count(*) from uploads where state = 'open')::int as holders,
      (select sum(reserved_bytes + reserved_files) from vfolders)::int as room`,
  )
  return row
}

t.test('a quota that fits ten of fifty uploads at once', async (t) => {
  const bytes = 100_000
  const folder = (await ask('POST', '/folders', { quota: { bytes: 10 * bytes + 50_000 } })).id
  const names = Array.from({ length: 50 }, (_, index) => `file-${index}`)
  const urls = await sign(folder, names)
  const body = randomBytes(bytes)
  const headers = { [requestIdHeader]: 'at-once' }
  const statuses = await Promise.all(
    urls.map(async ({ url }) => {
      const response = await fetch(url, { method: 'PUT', body, headers })
      await response.arrayBuffer()
      return response.status
    }),
  )
  t.same(statuses.toSorted(), [...Array(10).fill(201), ...Array(40).fill(507)])
  for (const server of servers) t.ok(server.linesOf('at-once').length > 0, 'each process had some of them')

  t.match(await ask('GET', `/folders/${folder}`), { usage: { bytes: 10 * bytes, files: 10 } })
  const mount = await mountOf(folder)
  const stored = await readdir(mount)
  t.same(stored.toSorted(), names.filter((_, index) => statuses[index] === 201).toSorted())
  for (const name of stored) t.equal((await stat(join(mount, name))).size, bytes)
  await eventually(async () => (await readdir(join(root, 'staging'))).length === 0)
  await eventually(async () => (await setAside()).room === 0)
  t.same(await setAside(), { holders: 0, room: 0 })
})

t.test('a tus upload goes on at another process when the first one is killed', async (t) => {
  const folder = (await ask('POST', '/folders')).id
  const content = randomBytes(8_000_000)
  const [{ tusUrl }] = await sign(folder, ['resumed'], { bytesPerSecond: 4_000_000 })
  const headers = { [requestIdHeader]: 'the-upload' }
  const uploading = upload(content, { endpoint: tusUrl, headers })
  const first = await eventually(() =>
    alive().find((server) => server.linesOf('the-upload').some(({ req }) => (req as Answer)?.method === 'PATCH')),
  )
  const [bytes = ''] = await readdir(join(root, 'uploads'))
  await eventually(async () => (await stat(join(root, 'uploads', bytes))).size > 1_000_000)
  await first.end('SIGKILL')
  await uploading
  t.equal(sha256(await readFile(join(await mountOf(folder), 'resumed'))), sha256(content))
  t.match(await ask('GET', `/folders/${folder}`), { usage: { bytes: content.length, files: 1 } })
  const went = alive().filter((server) =>
    server.linesOf('the-upload').some(({ req }) => (req as Answer)?.method === 'PATCH'),
  )
  t.ok(went.length > 0, 'one request ID in the logs of both')
  t.same(await readdir(join(root, 'uploads')), [])
  await eventually(async () => (await setAside()).room === 0)
})

t.test('a clone whose process is killed is finished by another one', async (t) => {
  const source = (await ask('POST', '/folders')).id
  const mount = await mountOf(source)
  for (let file = 0; file < 10_000; file++) writeFileSync(join(mount, `file-${file}`), `content ${file}`)
  const { job, folder } = await ask('POST', `/folders/${source}/clone`, {}, 'the-clone')
  const first: Server = await eventually(() => having('the-clone', 'job started'))
  await first.end('SIGKILL')
  const [second] = alive()
  t.match(await ended(second!, job.id, 60_000), { state: 'succeeded', attempts: 2, requestId: 'the-clone' })
  t.match(await ask('GET', `/folders/${folder.id}`), { state: 'ready', usage: { files: 10_000 } })
  const target = await mountOf(folder.id)
  t.equal((await readdir(target)).length, 10_000)
  for (const file of [0, 4999, 9999]) t.equal(await readFile(join(target, `file-${file}`), 'utf8'), `content ${file}`)
  const story = (server: Server) => server.linesOf('the-clone').filter(({ job_id }) => job_id === job.id)
  t.match(
    story(first).map(({ msg }) => msg),
    ['job started'],
  )
  t.match(
    story(second!)
      .map(({ msg }) => msg)
      .slice(-1),
    ['job succeeded'],
  )
  t.same(await setAside(), { holders: 0, room: 0 })
})
