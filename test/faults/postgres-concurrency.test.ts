import { randomUUID } from 'node:crypto'
import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Kysely } from 'kysely'
import t from 'tap'
import { openPostgres } from '../../plugins/storage/database/postgres.ts'
import { parseDatabaseUrl } from '../../plugins/storage/database/postgres-url.ts'
import type { Tables } from '../../plugins/storage/database/tables.ts'
import { transact } from '../../plugins/storage/database/transact.ts'
import { startCluster, startSharing } from '../postgres/service.ts'
import {
  type Answer,
  ended,
  eventually,
  Files,
  formOf,
  type Server,
  startServer,
  temporaryDirectory,
} from '../server.ts'
import { chunkType, create, signTus, tus } from '../tus.ts'

const cluster = await startCluster(t)

/** As many processes as on machines of their own, with one database and one volume. */
async function start(t: Parameters<typeof startSharing>[0], count: number, env: Record<string, string> = {}) {
  const name = `db_${randomUUID().replaceAll('-', '')}`
  await cluster.query('postgres', `create database ${name}`)
  const root = await temporaryDirectory(t)
  const sharing = { url: cluster.url(name), root, env }
  const servers = await Promise.all(Array.from({ length: count }, () => startSharing(t, sharing)))
  return { name, root, servers, at: (index: number): Server => servers[index % count]! }
}

const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0)

const all = <T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => work(index)))

t.test('quotas are exact over several processes', async (t) => {
  const { name, at } = await start(t, 3)
  const put = async (index: number, folder: string): Promise<number> => {
    const path = `/folders/upload?folder=${folder}&path=${index}`
    return (await at(index).manager('POST', path, formOf({ file: 'x'.repeat(1000) }))).status
  }
  const count = (statuses: number[], wanted: number) => statuses.filter((status) => status === wanted).length
  const idle = () =>
    eventually(async () => {
      const rows = await cluster.query(name, 'select 1 from vfolders where reserved_bytes <> 0 or reserved_files <> 0')
      return rows.length === 0
    })

  await t.test('that of a vfolder', async (t) => {
    const folder = await at(0).createFolder({ quota: { bytes: 20_500, files: 30 } })
    const statuses = await all(50, (index) => put(index, folder))
    t.same([count(statuses, 201), count(statuses, 507)], [20, 30])
    t.match(await at(1).ask('GET', `/folders/${folder}`), { usage: { bytes: 20_000, files: 20 } })
  })

  await t.test('that of a scope with many vfolders', async (t) => {
    await at(0).ask('PUT', '/quota-scopes/user-1', { files: 17 })
    const folders = await all(10, (index) => at(index).createFolder({ quotaScope: 'user-1' }))
    const statuses = await all(50, (index) => put(index, folders[index % 10]!))
    t.same([count(statuses, 201), count(statuses, 507)], [17, 33])
    await idle()
    t.match(await at(2).ask('GET', '/quota-scopes/user-1'), { usage: { bytes: 17_000, files: 17 } })
    await at(0).ask('DELETE', `/folders/${folders[0]}`)
    const left = (await at(1).ask('GET', '/quota-scopes/user-1')).usage.files
    t.equal((await put(0, folders[1]!)) === 201, left < 17, 'what is deleted makes room')
    const [row] = await cluster.query(
      name,
      `select s.usage_files::int as counted, sum(f.usage_files)::int as summed, s.reserved_bytes::int as reserved
        from quota_scopes s join vfolders f on f.quota_scope = s.scope and f.state <> 'deleting' group by s.scope`,
    )
    t.equal(row.counted, row.summed)
  })

  await t.test('limits that are given while uploads run', async (t) => {
    const folder = await at(0).createFolder({ quotaScope: 'user-2' })
    const uploads = all(30, (index) => put(index, folder))
    await at(1).ask('PUT', '/quota-scopes/user-2', { files: 1000 })
    t.equal(count(await uploads, 201), 30)
    await idle()
    t.match(await at(2).ask('GET', '/quota-scopes/user-2'), { usage: { bytes: 30_000, files: 30 } })
  })
})

t.test('the same at the same time', async (t) => {
  const { name, servers, at } = await start(t, 3)

  await t.test('a vfolder', async (t) => {
    const id = randomUUID()
    const responses = await all(30, (index) => at(index).manager('POST', '/folders', { id }))
    t.same([...new Set(responses.map(({ status }) => status))].toSorted(), [200, 201])
    t.equal(responses.filter(({ status }) => status === 201).length, 1)
    const jobs = await all(15, (index) =>
      at(index)
        .ask('DELETE', `/folders/${id}`)
        .catch(() => undefined),
    )
    t.equal(new Set(jobs.flatMap((answer) => answer?.job.id ?? [])).size, 1, 'one job deletes it')
  })

  await t.test('a clone', async (t) => {
    const source = await at(0).createFolder()
    const id = randomUUID()
    const answers: Answer[] = await all(15, (index) => at(index).ask('POST', `/folders/${source}/clone`, { id }))
    t.equal(new Set(answers.map(({ job }) => job.id)).size, 1)
    t.match(await ended(at(0), answers[0].job.id), { state: 'succeeded', attempts: 1 })
  })

  await t.test('jobs, each of which runs once and has a place of its own', async (t) => {
    const folders = await all(40, (index) => at(index).createFolder())
    const jobs = await all(40, (index) => at(index).ask('DELETE', `/folders/${folders[index]}`))
    for (const { job } of jobs) t.match(await ended(at(0), job.id), { state: 'succeeded', attempts: 1 })
    const sequences = await cluster.query(name, 'select sequence from jobs')
    t.equal(new Set(sequences.map(({ sequence }) => sequence)).size, sequences.length)
    const ran = servers.map((server) => server.lines().filter(({ msg }) => msg === 'job succeeded').length)
    t.ok(
      ran.every((count) => count > 0),
      `all take their part: ${ran}`,
    )
  })

  for (const server of servers) {
    t.notMatch(
      server.lines().find(({ level }) => level >= 50),
      { level: Number },
      'no error is logged',
    )
  }
})

t.test('transactions that wait for each other are run again', async (t) => {
  const { name } = await start(t, 1)
  const engine = openPostgres({
    variable: 'DATABASE_URL',
    server: parseDatabaseUrl({ name: 'DATABASE_URL', text: cluster.url(name) }),
    poolSize: 4,
    connectMilliseconds: 10_000,
    statementMilliseconds: 10_000,
    onLost: () => {},
    onDeaf: () => {},
    onHearing: () => {},
  })
  const db = new Kysely<Tables>({ dialect: engine.dialect })
  t.teardown(() => db.destroy())
  const scopes = ['a', 'b']
  for (const scope of scopes) {
    await db.insertInto('quota_scopes').values({ scope, quota_bytes: 0, quota_files: 0 }).execute()
  }
  const raise = (order: string[]) =>
    transact(db, async (trx) => {
      for (const scope of order) {
        const raised = trx.updateTable('quota_scopes').set((eb) => ({ quota_bytes: eb('quota_bytes', '+', 1) }))
        await raised.where('scope', '=', scope).execute()
        await sleep(20)
      }
    })
  await all(4, (index) => raise(index % 2 === 0 ? scopes : scopes.toReversed()))
  t.same(await db.selectFrom('quota_scopes').select('quota_bytes').where('scope', 'in', scopes).execute(), [
    { quota_bytes: 4 },
    { quota_bytes: 4 },
  ])
})

t.test('pages do not depend on how the database sorts', async (t) => {
  const { name, at } = await start(t, 1)
  const ids = await all(60, (index) => at(index).createFolder())
  const pages: string[] = []
  for (let cursor = ''; ; ) {
    const { folders, nextCursor } = await at(0).ask('GET', `/folders?limit=7${cursor}`)
    pages.push(...folders.map(({ id }: Answer) => id))
    if (nextCursor === null) break
    cursor = `&cursor=${nextCursor}`
  }
  t.same(pages, ids.toSorted())
  const collations = await cluster.query(
    name,
    `select distinct collation_name from information_schema.columns where table_schema = 'public' and data_type = 'text'`,
  )
  t.same(collations, [{ collation_name: 'C' }])
})

t.test('a number that is none of JavaScript is an error, and no other number', async (t) => {
  const { name, at } = await start(t, 1)
  const folder = await at(0).createFolder()
  await cluster.query(name, `update vfolders set usage_bytes = ${Number.MAX_SAFE_INTEGER}`)
  t.match(await at(0).ask('GET', `/folders/${folder}`), { usage: { bytes: Number.MAX_SAFE_INTEGER } })
  await cluster.query(name, 'update vfolders set usage_bytes = 9007199254740993')
  const response = await at(0).manager('GET', `/folders/${folder}`)
  t.equal(response.status, 500)
  t.match(await at(0).logged(({ level }) => level === 50), {
    err: { message: /9007199254740993, which is no integer/ },
  })
  t.equal((await fetch(`${at(0).url}/readyz`)).status, 200)
})

t.test('text that PostgreSQL cannot store is refused or not found', async (t) => {
  const { at } = await start(t, 1)
  const paths = [
    '/jobs?folder=%00',
    '/jobs?kind=%00',
    '/jobs/%00',
    '/folders/%00',
    '/quota-scopes/%00',
    '/folders?volume=%00',
  ]
  for (const path of paths) {
    const { status } = await at(0).manager('GET', path)
    t.ok(status === 200 || (status >= 400 && status < 500), `${path}: ${status}`)
  }
  const cursor = Buffer.from('\0').toString('base64url')
  for (const path of [`/jobs?cursor=${cursor}`, `/folders?cursor=${cursor}`]) {
    t.equal((await at(0).manager('GET', path)).status, 400, path)
  }
  const folder = await at(0).createFolder({ metadata: { note: 'a\0b\ud800' } })
  t.match(await at(0).ask('GET', `/folders/${folder}`), { metadata: { note: 'a\0b\ud800' } })
  t.equal((await fetch(`${at(0).url}/upload/tus/%00?token=x`, { method: 'HEAD' })).status < 500, true)
})

t.test('a volume that only one process has', async (t) => {
  const name = `db_${randomUUID().replaceAll('-', '')}`
  await cluster.query('postgres', `create database ${name}`)
  const root = await temporaryDirectory(t)
  const volume = (volume: string) => ({ backend: 'posix', root: join(root, volume) })
  const startWith = (volumes: object) =>
    startServer(t, {
      env: {
        DATABASE_URL: cluster.url(name),
        VOLUMES: JSON.stringify(volumes),
        LEASE_SECONDS: '3',
        UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
        QUOTA_SYNC_INTERVAL_SECONDS: '1',
      },
    })
  // The one that begins the periodic work has not all volumes.
  const two = await startWith({ common: volume('common') })
  const one = await startWith({ common: volume('common'), own: volume('own') })

  await t.test('is counted by that process', async (t) => {
    const files = new Files(one, await one.createFolder({ volume: 'own' }), '')
    writeFileSync(join(await one.mountOf(files.folder), 'a'), 'past the service')
    await eventually(async () => (await files.usage()).bytes === 16)
    const { jobs } = await two.ask('GET', '/jobs?kind=sync-quotas&state=succeeded&limit=1000')
    t.same([...new Set(jobs.map(({ result }: Answer) => result.failed))], [0])
    await one.ask('DELETE', `/folders/${files.folder}`)
  })

  await t.test('starts what the other one has queued, and is told of its end, at once', async (t) => {
    const folder = await one.createFolder({ volume: 'own' })
    const waits: number[] = []
    for (let count = 0; count < 20; count++) {
      const { job } = await two.ask('POST', `/folders/${folder}/sync`)
      const events = await (await two.manager('GET', `/jobs/${job.id}/events`)).text()
      t.match(events, /\nevent: succeeded\n/)
      const { createdAt, startedAt } = await two.ask('GET', `/jobs/${job.id}`)
      waits.push(Date.parse(startedAt) - Date.parse(createdAt))
    }
    // Looks of each second would take 500 ms on average.
    t.ok(sum(waits) < 20 * 250, `started after ${waits} ms`)
  })

  await t.test('is told that a job is cancelled', async (t) => {
    const source = await one.createFolder({ volume: 'common' })
    const mount = await one.mountOf(source)
    writeFileSync(join(mount, 'large'), '')
    truncateSync(join(mount, 'large'), 4 * 1024 ** 3)
    const { job } = await one.ask('POST', `/folders/${source}/clone`, { volume: 'own' })
    await eventually(async () => (await two.ask('GET', `/jobs/${job.id}`)).state === 'running')
    await two.ask('DELETE', `/jobs/${job.id}`)
    t.match(await ended(two, job.id), { state: 'cancelled' })
    await one.logged(({ msg, job_id }) => msg === 'job cancelled' && job_id === job.id)
    await two.ask('DELETE', `/folders/${source}`)
  })

  const folders = await all(12, () => one.createFolder({ volume: 'own' }))
  const jobs: Answer[] = await all(12, (index) => two.ask('DELETE', `/folders/${folders[index]}`))
  for (const { job } of jobs) t.match(await ended(one, job.id), { state: 'succeeded' })
  t.notOk(two.lines().some(({ msg, job_id }) => msg === 'job started' && jobs.some(({ job }) => job.id === job_id)))

  const source = await one.createFolder({ volume: 'own' })
  const late = await one.createFolder({ volume: 'own' })
  await one.end()
  const { job: deletion } = await two.ask('DELETE', `/folders/${late}`)
  await two.logged(({ msg, volume }) => msg === 'jobs wait for a process that has this volume' && volume === 'own')
  t.match(await two.ask('GET', `/jobs/${deletion.id}`), { state: 'queued' })
  const readiness = async () => (await fetch(`${two.url}/readyz`)).json() as Promise<Answer>
  const told = await eventually(async () => {
    const answer = await readiness()
    return answer.notices !== undefined && answer
  })
  t.match(told, { status: 'ready', notices: ['jobs wait for a process that has the volume own'] })
  const three = await startWith({ common: volume('common'), own: volume('own') })
  t.match(await ended(three, deletion.id), { state: 'succeeded' })
  t.match(await three.ask('GET', `/folders/${source}`), { state: 'ready' })
  await eventually(async () => (await readiness()).notices === undefined)
})

t.test('clocks that differ by ten minutes', async (t) => {
  const name = `db_${randomUUID().replaceAll('-', '')}`
  await cluster.query('postgres', `create database ${name}`)
  const root = await temporaryDirectory(t)
  const shifted = (minutes: number) =>
    startSharing(t, {
      url: cluster.url(name),
      root,
      env: {
        UPLOAD_TTL_SECONDS: '60',
        UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
        LEASE_SECONDS: '2',
        CLOCK_SHIFT_MILLISECONDS: String(minutes * 60_000),
      },
      nodeOptions: [`--import=${new URL('../shifted-clock.ts', import.meta.url).href}`],
    })
  // The first one keeps the periodic tasks, such as the cleanup.
  const [fast, slow, right] = [await shifted(10), await shifted(-10), await shifted(0)]
  const folder = await right.createFolder()
  const at2 = (server: Server, url: string) => server.url + url.slice(new URL(url).origin.length)
  const paced = await slow.sign(folder, 'paced', { operation: 'upload', bytesPerSecond: 1_000_000 })
  const pacing = fetch(paced, { method: 'PUT', body: new Uint8Array(4_000_000) })

  for (const [begins, goesOn] of [
    [slow, right],
    [right, fast],
    [slow, fast],
    [fast, slow],
  ] as const) {
    const location = await create(await signTus({ server: begins, folder }, randomUUID(), { expiresIn: 7200 }), 5)
    t.match(await tus('HEAD', at2(goesOn, location)), { status: 200, offset: '0' })
    t.equal((await tus('PATCH', at2(goesOn, location), { ...chunkType, 'upload-offset': '0' }, 'bytes')).status, 204)
  }
  const started = []
  for (const server of [fast, slow, right, slow, fast]) {
    const { job } = await server.ask('POST', `/folders/${folder}/sync`)
    started.push(job.id)
    t.match(await ended(right, job.id), { state: 'succeeded', attempts: 1 })
  }
  const { jobs } = await fast.ask('GET', `/jobs?folder=${folder}`)
  t.same(
    jobs.map(({ id }: Answer) => id),
    started.toReversed(),
    'in the order in which they were started',
  )
  t.equal((await pacing).status, 201, 'no cleanup takes it for something old')

  const made = await Promise.all([fast, slow, right].map((server) => server.createFolder()))
  for (const id of made) {
    const { createdAt } = await right.ask('GET', `/folders/${id}`)
    t.ok(Math.abs(Date.parse(createdAt) - Date.now()) < 300_000, 'by the clock of the database')
  }

  // As the documentation says: a signed URL ends by the clock of the process that opens it.
  const url = await slow.sign(folder, 'paced', { expiresIn: 300 })
  const opened = await Promise.all([slow, right, fast].map((server) => fetch(at2(server, url), { method: 'HEAD' })))
  t.same(
    opened.map(({ status }) => status),
    [200, 401, 401],
  )

  const dead = (server: Server) => server.lines().filter(({ msg }) => msg.startsWith('a process counts as dead'))
  t.same([fast, slow, right].flatMap(dead), [], 'nobody takes a living process for dead')
  await fast.end('SIGKILL')
  await eventually(() => dead(right).length + dead(slow).length > 0)
})
