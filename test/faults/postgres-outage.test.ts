import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { scrape } from '../metrics.ts'
import { Cluster } from '../postgres/cluster.ts'
import { startProxy } from '../postgres/proxy.ts'
import { startCluster, startSharing } from '../postgres/service.ts'
import { type Answer, ended, eventually, type Server, temporaryDirectory } from '../server.ts'
import { needing } from '../tools.ts'
import { chunkType, create, sha256, signTus, tus } from '../tus.ts'

const cluster = await startCluster(t, 'max_connections=40')

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
  const isUp = async () => (await scrape(one)).sum('storage_proxy_database_up')
  t.equal(await isUp(), 0)
  const refused = await one.manager('POST', '/folders', {})
  t.match([refused.status, await refused.json()], [503, { code: 'database_unavailable', detail: /server/ }])
  t.match(refused.headers.get('retry-after'), /^\d+$/)
  // As soon as what the process remembers of the vfolder is too old.
  const undone = await eventually(async () => {
    const response = await fetch(download, { headers: { range: 'bytes=0-9' } })
    await response.arrayBuffer()
    return response.status !== 206 && response
  })
  t.match([undone.status, undone.headers.get('retry-after')], [503, /^\d+$/])
  await sleep(4000)
  await own.start()

  await eventually(async () => (await readiness(one)).status === 200 && (await readiness(two)).status === 200)
  await sleep(500)
  t.equal(await isUp(), 1)
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

t.test('notifications are heard again, however their connection was lost', async (t) => {
  const name = await database()
  const root = await temporaryDirectory(t)
  const proxy = await startProxy(t, cluster.port)
  const through = cluster.url(name).replace(`:${cluster.port}/`, `:${proxy.port}/`)
  const env = { DATABASE_STATEMENT_TIMEOUT_SECONDS: '1' }
  const other = await startSharing(t, { url: cluster.url(name), root, env })
  const folder = await other.createFolder()
  const server = await startSharing(t, { url: through, root, env })
  const heard = () => server.lines().filter(({ msg }) => msg === 'the database tells of changes again').length
  const listeners = `from pg_stat_activity where datname = '${name}' and query ~ '^(listen|select 1$)' and state = 'idle'`
  await eventually(async () => (await cluster.query(name, `select pid ${listeners}`)).length === 2)

  await cluster.query(name, `select pg_terminate_backend(pid) ${listeners}`)
  await eventually(() => heard() === 1)
  // Nobody is told that it is gone.
  proxy.strand()
  await eventually(() => heard() === 2)
  const { job } = await other.ask('POST', `/folders/${folder}/sync`)
  t.match(await ended(server, job.id), { state: 'succeeded' })
  t.match(
    server.lines().filter(({ msg }) => msg.includes('tells of no changes')),
    [{ level: 40 }, { level: 40, err: { message: /timeout/ } }],
  )
})

t.test('a server with as many connections as it takes', async (t) => {
  const name = await database()
  const server = await startSharing(t, { url: cluster.url(name), root: await temporaryDirectory(t) })
  const folder = await server.createFolder()
  const content = randomBytes(6_000_000)
  await server.upload(folder, { file: content })
  const slow = await server.sign(folder, 'file', { bytesPerSecond: 2_000_000 })
  const running = fetch(slow).then(async (response) => Buffer.from(await response.arrayBuffer()))

  const others: pg.Client[] = []
  const connect = async () => {
    const client = new pg.Client({ connectionString: cluster.url('postgres') })
    client.on('error', () => {})
    await client.connect()
    others.push(client)
  }
  const letGo = () => Promise.all(others.splice(0).map((client) => client.end()))
  t.teardown(letGo)
  // Takes what is left, and then what the service has, which tries to get it back.
  await eventually(async () => {
    const taken = await Promise.allSettled(Array.from({ length: 10 }, connect))
    const own = `from pg_stat_activity where datname = '${name}'`
    const { rows } = await others[0]!.query(`select count(pg_terminate_backend(pid))::int as ended ${own}`)
    return rows[0].ended === 0 && taken.every(({ status }) => status === 'rejected')
  })
  const refused = await server.manager('POST', '/folders', {})
  t.match(
    [refused.status, await refused.json()],
    [503, { code: 'database_unavailable', detail: /no more connections/ }],
  )
  t.match(refused.headers.get('retry-after'), /^\d+$/)
  t.match((await readiness(server)).checks[0], { healthy: false, reason: /no more connections/ })
  await letGo()
  await eventually(async () => (await readiness(server)).status === 200)
  await server.createFolder()
  t.equal(sha256(await running), sha256(content), 'the running download went on')
})

t.test('a server whose disk is full', needing('mount', 'umount', 'loop devices'), async (t) => {
  const directory = join(await temporaryDirectory(t), 'cluster')
  await mkdir(directory)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'none', directory])
  t.teardown(() => execFileSync('umount', [directory]))
  const own = await Cluster.create(directory)
  t.teardown(() => own.stop('SIGQUIT'))
  await own.start()
  const url = own.url(await database(own))
  const server = await startSharing(t, { url, root: await temporaryDirectory(t), env: { LEASE_SECONDS: '2' } })
  const folder = await server.createFolder()
  await server.upload(folder, { file: 'content' })
  const download = await server.sign(folder, 'file')
  const filler = join(directory, 'filler')
  const made: string[] = []
  const create = async () => {
    const response = await server.manager('POST', '/folders', {})
    const answer = (await response.json()) as Answer
    if (response.status === 201) made.push(answer.id)
    else return { status: response.status, retryAfter: response.headers.get('retry-after'), ...answer }
  }

  // Begins a file of the server's log, which has room for what it has to write down there.
  const nextLog = 'select pg_switch_wal(); create table if not exists t (); drop table t'
  await own.query('postgres', nextLog)
  fill(filler)
  t.match(await eventually(create), {
    status: 503,
    code: 'database_unavailable',
    detail: /disk of its server is full/,
    retryAfter: /^\d+$/,
  })
  t.match((await readiness(server)).checks[0], { healthy: false, reason: /disk of its server is full/ })
  t.equal((await fetch(download)).status, 200, 'reading goes on')
  await rm(filler)
  await eventually(async () => (await readiness(server)).status === 200)
  t.equal(await create(), undefined)

  // Without room for its log it ends.
  fill(filler)
  await eventually(async () => (await own.query('postgres', nextLog).catch(() => 'ended')) === 'ended')
  t.match(await eventually(create), { status: 503, code: 'database_unavailable' })
  await own.stop()
  await rm(filler)
  await own.start()
  await eventually(async () => (await readiness(server)).status === 200)
  t.equal(await create(), undefined)
  for (const id of made) t.match(await server.ask('GET', `/folders/${id}`), { state: 'ready' })
  const lost = server.lines().filter(({ msg }) => msg === 'a connection to the database was lost')
  t.ok(lost.length > 0)
  t.notMatch(JSON.stringify(lost), /secretKey|connectionParameters/, 'the log has nothing of the connection itself')
  t.equal(await server.end(), 0)
})

/** Takes the room that is left on a filesystem. */
function fill(file: string): void {
  const descriptor = openSync(file, 'a')
  try {
    for (const bytes of [1_000_000, 4096]) {
      for (let isFull = false; !isFull; ) {
        try {
          writeSync(descriptor, Buffer.alloc(bytes))
        } catch {
          isFull = true
        }
      }
    }
  } finally {
    closeSync(descriptor)
  }
}
