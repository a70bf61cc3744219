import { randomBytes, randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Cluster } from '../postgres/cluster.ts'
import { startProxy } from '../postgres/proxy.ts'
import { startCluster, startSharing } from '../postgres/service.ts'
import { type Answer, ended, eventually, type Server, temporaryDirectory } from '../server.ts'
import { chunkType, create, sha256, signTus, tus } from '../tus.ts'

const cluster = await startCluster(t)

async function database(on: Cluster = cluster): Promise<string> {
  const name = `db_${randomUUID().replaceAll('-', '')}`
  await on.query('postgres', `create database ${name}`)
  return name
}

async function readiness(server: Server): Promise<Answer> {
  const response = await fetch(`${server.url}/readyz`)
  return { ...((await response.json()) as Answer), status: response.status }
}

t.test('the database goes away under load, and comes back', async (t) => {
  const own = await startCluster(t)
  const url = own.url(await database(own))
  const root = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '2', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  const servers = [await startSharing(t, { url, root, env }), await startSharing(t, { url, root, env })] as const
  const [one, two] = servers
  const folder = await one.createFolder()
  const content = randomBytes(24_000_000)
  await one.upload(folder, { large: content })
  const download = await one.sign(folder, 'large')
  const bytesPerSecond = 2_000_000
  const slow = await one.sign(folder, 'large', { bytesPerSecond })
  const running = fetch(slow).then(async (response) => Buffer.from(await response.arrayBuffer()))
  const uploadUrl = await signTus({ server: one, folder }, 'resumed')
  const location = await create(uploadUrl, 2000)
  t.equal((await tus('PATCH', location, { ...chunkType, 'upload-offset': '0' }, content.subarray(0, 1000))).status, 204)
  const source = await one.createFolder()
  await mkdir(join(await one.mountOf(source), 'd'))
  for (let file = 0; file < 2000; file++) writeFileSync(join(await one.mountOf(source), 'd', String(file)), 'x')
  const { job } = await two.ask('POST', `/folders/${source}/clone`, {})

  const acknowledged: string[] = []
  const refusals: Answer[] = []
  let loading = true
  const load = servers.map(async (server, index) => {
    for (let count = 0; loading; count++) {
      const path = `${index}-${count}`
      const form = new FormData()
      form.append('file', new Blob(['some content']), path)
      const response = await server.manager('POST', `/folders/upload?folder=${folder}`, form)
      if (response.status === 201) acknowledged.push(path)
      else
        refusals.push([response.status, response.headers.get('retry-after'), ((await response.json()) as Answer).code])
    }
  })
  await sleep(300)
  await own.stop()

  const away = await eventually(async () => {
    const answer = await readiness(one)
    return answer.status === 503 && answer
  })
  t.match(away.checks[0], { name: 'database', healthy: false, reason: /server/ })
  const refused = await one.manager('POST', '/folders', {})
  t.match([refused.status, await refused.json()], [503, { code: 'database_unavailable', detail: /server/ }])
  t.match(refused.headers.get('retry-after'), /^\d+$/)
  t.equal((await fetch(download, { headers: { range: 'bytes=0-9' } })).status < 600, true)
  await sleep(4000)
  await own.start()

  await eventually(async () => (await readiness(one)).status === 200 && (await readiness(two)).status === 200)
  await sleep(500)
  loading = false
  await Promise.all(load)
  t.ok(refusals.length > 0 && acknowledged.length > 0, `${acknowledged.length} done, ${refusals.length} refused`)
  for (const refusal of refusals) t.match(refusal, [503, /^\d+$/, /^database_(unavailable|busy)$/])
  for (const path of acknowledged) {
    t.equal((await two.manager('GET', `/folders/${folder}/content/${path}`)).status, 200, `${path} is there`)
  }
  t.equal(sha256(await running), sha256(content), 'the running download went on')
  const { offset } = await tus('HEAD', location)
  t.equal(offset, '1000', 'the offset that was told holds')
  const rest = await tus('PATCH', location, { ...chunkType, 'upload-offset': '1000' }, content.subarray(1000, 2000))
  t.equal(rest.status, 204)
  t.match(await ended(two, job.id, 60_000), { state: 'succeeded' })
  t.match(await one.ask('GET', `/folders/${job.folder}`), { state: 'ready', usage: { files: 2000 } })

  await eventually(async () => {
    const rows = await own.query(new URL(url).pathname.slice(1), 'select * from reservations')
    return rows.length === 0
  }, 30_000)
  const [{ reserved }] = await own.query(
    new URL(url).pathname.slice(1),
    `select sum(reserved_bytes + reserved_files)::int as reserved from vfolders`,
  )
  t.equal(reserved, 0, 'all room is given back')
  for (const server of servers) {
    t.equal(server.process.exitCode, null)
    t.notOk(server.rawLines().join().includes('counts as dead'), 'nobody took a living process for dead')
    t.equal(await server.end(), 0)
  }
})

t.test('a process that is cut off for longer than its lease', async (t) => {
  const name = await database()
  const root = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1', DATABASE_STATEMENT_TIMEOUT_SECONDS: '60' }
  const proxy = await startProxy(t, cluster.port)
  const through = cluster.url(name).replace(`:${cluster.port}/`, `:${proxy.port}/`)
  const cutOff = await startSharing(t, { url: through, root, env })
  const source = await cutOff.createFolder()
  const mount = await cutOff.mountOf(source)
  for (let file = 0; file < 20_000; file++) writeFileSync(join(mount, `f-${file}`), 'original')
  const { job, folder } = await cutOff.ask('POST', `/folders/${source}/clone`, {})
  await eventually(async () => (await cutOff.ask('GET', `/jobs/${job.id}`)).progress.filesDone > 0)
  proxy.cut()
  const other = await startSharing(t, { url: cluster.url(name), root, env })
  t.match(await ended(other, job.id, 60_000), { state: 'succeeded', attempts: 2 })
  // A user goes on with what is whole now.
  const target = await other.mountOf(folder.id)
  const names = [0, 5000, 10_000, 15_000, 19_999].map((file) => `f-${file}`)
  for (const name of names) writeFileSync(join(target, name), 'changed since')
  proxy.mend()
  await cutOff.logged(({ msg, job_id }) => job_id === job.id && msg.startsWith('job was taken over'), 60_000)
  await sleep(1000)
  for (const name of names) t.equal(await readFile(join(target, name), 'utf8'), 'changed since', name)
  t.match(await other.ask('GET', `/jobs/${job.id}`), { state: 'succeeded', attempts: 2 })
  await eventually(async () => (await readiness(cutOff)).status === 200)
  t.match(await cutOff.ask('GET', `/folders/${folder.id}`), { state: 'ready' })
})

t.test('a process that is cut off while it uploads', async (t) => {
  const name = await database()
  const root = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  const proxy = await startProxy(t, cluster.port)
  const through = cluster.url(name).replace(`:${cluster.port}/`, `:${proxy.port}/`)
  const cutOff = await startSharing(t, { url: through, root, env })
  const other = await startSharing(t, { url: cluster.url(name), root, env })
  const folder = await other.createFolder({ quota: { bytes: 1000 } })

  // The room of the upload is given back, and taken by somebody else: it must not appear.
  const url = new URL(await cutOff.sign(folder, 'late', { operation: 'upload' }))
  const sending = request(url, { method: 'PUT', headers: { 'content-length': 900 } })
  const answered = new Promise<number | undefined>((resolve, reject) => {
    sending.on('response', ({ statusCode }) => resolve(statusCode)).on('error', reject)
  })
  sending.write('x'.repeat(500))
  const reserved = 'select * from reservations'
  await eventually(async () => (await cluster.query(name, reserved)).length === 1)

  // An upload that another process has finished is not opened again.
  const content = randomBytes(50)
  const location = await create(await signTus({ server: cutOff, folder }, 'resumed'), content.length)
  proxy.cut()
  const here = other.url + location.slice(new URL(location).origin.length)
  await eventually(async () => (await cluster.query(name, reserved)).length === 0)
  const done = await tus('PATCH', here, { ...chunkType, 'upload-offset': '0' }, content)
  t.match(done, { status: 204, offset: '50' })
  await other.upload(folder, { quick: 'y'.repeat(800) })
  proxy.mend()
  sending.end('x'.repeat(400))
  t.equal(await answered, 507)
  t.match(await other.ask('GET', `/folders/${folder}/files`), { entries: [{ path: 'quick' }, { path: 'resumed' }] })
  t.match(await other.ask('GET', `/folders/${folder}`), { usage: { files: 2, bytes: 850 } })
  t.match(await tus('HEAD', location), { status: 200, offset: '50' })
})

t.test('a server that takes no more connections', async (t) => {
  const name = await database()
  await cluster.query('postgres', `create role plain login password 'plain'; alter database ${name} owner to plain`)
  const url = cluster.url(name).replace(/tests:[^@]*@/, 'plain:plain@')
  const server = await startSharing(t, { url, root: await temporaryDirectory(t) })
  await cluster.query('postgres', 'alter role plain connection limit 0')
  const end = `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'plain'`
  await cluster.query('postgres', end)
  const refused = await server.manager('POST', '/folders', {})
  t.match(
    [refused.status, await refused.json()],
    [503, { code: 'database_unavailable', detail: /no more connections/ }],
  )
  await cluster.query('postgres', 'alter role plain connection limit -1')
  await eventually(async () => (await readiness(server)).status === 200)
  await server.createFolder()
})
