import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { mkdir, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { scrape } from '../metrics.ts'
import {
  type Answer,
  ended,
  eventually,
  managerToken,
  type Server,
  startServer,
  temporaryDirectory,
} from '../server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)
const env = { LEASE_SECONDS: '1' }

/** Files of a few kinds, written past the service. */
async function fill(mount: string, files: number): Promise<void> {
  for (let directory = 0; directory < 10; directory++) {
    await mkdir(join(mount, `dir-${directory}`, 'empty'), { recursive: true })
    for (let file = 0; file < files / 10; file++) {
      writeFileSync(join(mount, `dir-${directory}`, `file-${file}`), `${directory} ${file}`.repeat(100))
    }
  }
  await rm(join(mount, 'link'), { force: true })
  await symlink('dir-0/file-0', join(mount, 'link'))
  await writeFile(join(mount, 'secret'), 'x', { mode: 0o600 })
  await utimes(join(mount, 'secret'), 1_000_000_000, 1_000_000_000)
}

interface Event {
  id: string
  event: string
  job: Answer
}

/** What curl gets from the events of a job, until the server ends them. */
async function events(server: Server, job: string, lastId?: string): Promise<Event[]> {
  const last = lastId === undefined ? [] : ['-H', `Last-Event-ID: ${lastId}`]
  const url = `${server.url}/jobs/${job}/events`
  const { stdout } = await run('curl', ['-sN', '-m', '30', '-H', `Authorization: Bearer ${managerToken}`, ...last, url])
  return stdout
    .split('\n\n')
    .filter((text) => text.startsWith('id: '))
    .map((text) => {
      const [id = '', event = '', data = ''] = text.split('\n').map((line) => line.slice(line.indexOf(': ') + 2))
      return { id, event, job: JSON.parse(data) }
    })
}

async function clone(server: Server, source: string, body: object = {}, id = 'the-clone'): Promise<Answer> {
  const response = await server.manager('POST', `/folders/${source}/clone`, body, { [requestIdHeader]: id })
  return { status: response.status, location: response.headers.get('location'), ...((await response.json()) as object) }
}

const server = await startServer(t)

t.test('a clone, followed by its events', needing('curl'), async (t) => {
  const source = await server.files()
  await fill(source.mount, 200)
  await server.ask('POST', `/folders/${source.folder}/sync`)
  await server.logged(({ msg }) => msg === 'usage had drifted')

  const { status, location, job, folder } = await clone(server, source.folder)
  t.equal(status, 202)
  t.equal(location, `/jobs/${job.id}`)
  t.match(job, { kind: 'clone-vfolder', folder: folder.id, requestId: 'the-clone', state: 'queued' })
  t.match(folder, { state: 'cloning', volume: 'default' })

  const told = await events(server, job.id)
  t.equal(told.at(-1)!.event, 'succeeded')
  t.match(told.at(-1)!.job, {
    state: 'succeeded',
    progress: { filesDone: 202, filesTotal: 202 },
    result: { changedCount: 0 },
    finishedAt: String,
  })
  t.same(await events(server, job.id, told.at(-1)!.id), [], 'nothing new after the end')
  t.equal((await events(server, job.id, told[0]!.id)).at(-1)!.event, 'succeeded', 'only what is new')

  const target = await server.mountOf(folder.id)
  await run('diff', ['-r', '--no-dereference', source.mount, target])
  const { stdout } = await run('stat', ['-c', '%a %Y', join(target, 'secret')])
  t.equal(stdout, '600 1000000000\n')
  t.match(await server.ask('GET', `/folders/${folder.id}`), {
    state: 'ready',
    usage: (await server.ask('GET', `/folders/${source.folder}`)).usage.files && { files: 202 },
  })

  const lines = server.lines().filter((line) => line.job_id === job.id)
  t.ok(lines.some(({ msg }) => msg === 'job started'))
  t.ok(lines.some(({ msg }) => msg === 'job succeeded'))
  for (const line of lines) t.equal(line.request_id, 'the-clone')
  for (const line of server.rawLines()) t.equal(line.split('"request_id":').length, 2, line)

  await t.test('the same call again is the same vfolder and the same job', async (t) => {
    const again = await clone(server, source.folder, { id: folder.id })
    t.match(again, { status: 202, job: { id: job.id, state: 'succeeded' }, folder: { id: folder.id } })
  })
})

t.test('a clone survives kill -9, and nothing is done twice', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const first = await startServer(t, { dataDir, env })
  const source = await first.files()
  await fill(source.mount, 8000)
  const { job, folder } = await clone(first, source.folder, {}, 'survivor')
  await eventually(async () => (await first.ask('GET', `/jobs/${job.id}`)).state === 'running')
  await first.end('SIGKILL')
  const before = first.lines().filter((line) => line.job_id === job.id)
  t.notOk(
    before.some(({ msg }) => msg === 'job succeeded'),
    'killed in the middle',
  )

  const second = await startServer(t, { dataDir, env })
  t.match(await ended(second, job.id), { state: 'succeeded', attempts: 2, requestId: 'survivor' })
  const kind = 'clone-vfolder'
  t.ok((await scrape(second)).sum('storage_proxy_job_takeovers_total', { kind }) >= 1)
  await run('diff', ['-r', '--no-dereference', source.mount, await second.mountOf(folder.id)])
  const after = second.lines().filter((line) => line.job_id === job.id)
  t.ok(after.some(({ msg }) => msg === 'job succeeded'))
  for (const line of [...before, ...after]) t.equal(line.request_id, 'survivor')
  t.match(await second.ask('GET', `/folders/${folder.id}`), { state: 'ready', usage: { files: 8002 } })
})

t.test('a graceful end puts a job back, and the next process goes on at once', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const first = await startServer(t, { dataDir })
  const source = await first.files()
  await fill(source.mount, 3000)
  const { job } = await clone(first, source.folder)
  await eventually(async () => (await first.ask('GET', `/jobs/${job.id}`)).state === 'running')
  t.equal(await first.end(), 0)
  const second = await startServer(t, { dataDir })
  const { state, history } = await ended(second, job.id)
  t.equal(state, 'succeeded')
  t.match(
    history.map(({ outcome }: Answer) => outcome),
    ['interrupted', 'succeeded'],
  )
})

t.test('of two processes on one database each job has one', async (t) => {
  const dataDir = await temporaryDirectory(t)
  // Longer than a busy machine may hold up a process that is alive: its jobs would be taken over.
  const env = { LEASE_SECONDS: '5' }
  const one = await startServer(t, { dataDir, env })
  const two = await startServer(t, { dataDir, env })
  const source = await one.files()
  await fill(source.mount, 100)
  const jobs: string[] = []
  for (let index = 0; index < 12; index++) {
    jobs.push((await clone(index % 2 ? one : two, source.folder, {}, `clone-${index}`)).job.id)
  }
  for (const job of jobs) t.match(await ended(one, job), { state: 'succeeded', attempts: 1 })
  const starts = [one, two].map((server) =>
    server.lines().filter(({ msg, kind }) => msg === 'job started' && kind === 'clone-vfolder'),
  )
  t.equal(starts[0]!.length + starts[1]!.length, 12)

  await t.test('and one of them dies', async (t) => {
    await fill(source.mount, 3000)
    const { job, folder } = await clone(one, source.folder)
    const runner = await eventually(async () =>
      [one, two].find((server) => server.lines().some(({ msg, job_id }) => msg === 'job started' && job_id === job.id)),
    )
    const other = runner === one ? two : one
    await runner.end('SIGKILL')
    t.match(await ended(other, job.id), { state: 'succeeded' })
    await run('diff', ['-r', '--no-dereference', source.mount, await other.mountOf(folder.id)])
    t.equal(await other.end(), 0)
  })
})

t.test('cancel', async (t) => {
  const source = await server.files()
  await fill(source.mount, 3000)
  const { job, folder } = await clone(server, source.folder)
  await eventually(async () => (await server.ask('GET', `/jobs/${job.id}`)).state === 'running')
  t.match(await (await server.manager('GET', `/folders/${folder.id}/files`)).json(), {
    status: 409,
    code: 'vfolder_cloning',
  })
  t.match(await (await server.manager('DELETE', `/folders/${folder.id}`)).json(), {
    status: 409,
    code: 'vfolder_cloning',
  })

  t.equal((await server.manager('DELETE', `/jobs/${job.id}`)).status, 202)
  const { state, progress } = await ended(server, job.id)
  t.equal(state, 'cancelled')
  t.ok(progress.filesDone < 3000, `${progress.filesDone} of 3000 files were cloned by then`)
  t.match(await (await server.manager('GET', `/folders/${folder.id}`)).json(), {
    status: 404,
    code: 'vfolder_not_found',
  })
  const { jobs } = await server.ask('GET', `/jobs?folder=${folder.id}&kind=delete-vfolder`)
  t.match(await ended(server, jobs[0].id), { state: 'succeeded', requestId: 'the-clone' })
  t.same(await readdir(join(server.dataDir, 'volumes/default/trash')), [])

  t.equal((await server.manager('DELETE', `/jobs/${job.id}`)).status, 202, 'again is no error')
  const done = await ended(server, (await clone(server, source.folder)).job.id)
  t.match(await (await server.manager('DELETE', `/jobs/${done.id}`)).json(), { status: 409, code: 'job_ended' })
  t.match(await (await server.manager('DELETE', `/jobs/${randomUUID()}`)).json(), {
    status: 404,
    code: 'job_not_found',
  })
  t.match(await (await server.manager('GET', `/jobs/${randomUUID()}/events`)).json(), {
    status: 404,
    code: 'job_not_found',
  })
})

t.test('what cannot be cloned', async (t) => {
  const root = await temporaryDirectory(t)
  const volumes = {
    default: { backend: 'posix', root: join(root, 'default') },
    other: { backend: 'posix', root: join(root, 'other') },
  }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })
  const source = await server.files()
  await source.upload({ 'a.txt': 'a' })
  const existing = await server.createFolder()
  const refused = async (what: string, body: object, expected: object, from = source.folder) =>
    t.match(await clone(server, from, body), expected, what)
  await refused('onto another', { id: existing }, { status: 409, code: 'vfolder_exists' })
  await refused('onto itself', { id: source.folder }, { status: 409, code: 'invalid_operation' })
  await refused('of nothing', {}, { status: 404, code: 'vfolder_not_found' }, randomUUID())
  await refused('onto nowhere', { volume: 'nowhere' }, { status: 404, code: 'volume_not_found' })
  await refused('with an unknown field', { to: 'x' }, { status: 400, code: 'validation_failed' })
  await refused('over its own quota', { quota: { bytes: 0 } }, { status: 507, code: 'quota_exceeded' })
  t.equal((await server.ask('GET', '/folders')).folders.length, 2, 'nothing is left of those')

  await server.ask('DELETE', `/folders/${existing}`)
  const deleting = await server.files()
  await fill(deleting.mount, 4000)
  await server.ask('DELETE', `/folders/${deleting.folder}`)
  await refused('onto one that is being deleted', { id: deleting.folder }, { status: 409, code: 'vfolder_exists' })
  await refused('of a deleted one', {}, { status: 404, code: 'vfolder_not_found' }, existing)

  await t.test('between volumes', async (t) => {
    await fill(source.mount, 50)
    const { job, folder } = await clone(server, source.folder, { volume: 'other' })
    t.match(await ended(server, job.id), { state: 'succeeded', result: { files: 53 } })
    const target = await server.mountOf(folder.id)
    t.ok(target.startsWith(join(root, 'other')))
    await run('diff', ['-r', '--no-dereference', source.mount, target])
  })
})

t.test('jobs are listed by page, the newest first', async (t) => {
  const server = await startServer(t)
  const folder = await server.createFolder()
  const ids: string[] = []
  for (let index = 0; index < 5; index++) {
    ids.unshift((await server.ask('POST', `/folders/${folder}/sync`)).job.id)
    await sleep(5)
  }
  const listed: string[] = []
  let cursor = ''
  do {
    const page = await server.ask('GET', `/jobs?folder=${folder}&limit=2${cursor}`)
    listed.push(...page.jobs.map((job: Answer) => job.id))
    cursor = page.nextCursor === null ? '' : `&cursor=${page.nextCursor}`
  } while (cursor !== '')
  t.same(listed, ids)
  for (const id of ids) t.match(await ended(server, id), { state: 'succeeded' })
  t.equal((await server.ask('GET', `/jobs?folder=${folder}&state=failed`)).jobs.length, 0)
  t.match(await (await server.manager('GET', '/jobs?state=wrong')).json(), { status: 400, code: 'validation_failed' })
})

t.test('jobs that ended are forgotten after a while', async (t) => {
  const server = await startServer(t, { env: { JOB_RETENTION_SECONDS: '1' } })
  const folder = await server.createFolder()
  const { job } = await server.ask('POST', `/folders/${folder}/sync`)
  await ended(server, job.id).catch(() => undefined)
  await eventually(async () => (await server.manager('GET', `/jobs/${job.id}`)).status === 404)
})
