import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { chmod, mkdir, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { changeDatabase } from '../database.ts'
import { type Answer, ended, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'
import { Strace } from '../strace.ts'
import { needing, withOwnMounts, withoutRoot } from '../tools.ts'

const run = promisify(execFile)
const env = { LEASE_SECONDS: '1' }

async function clone(server: Server, source: string, body: object = {}): Promise<Answer> {
  return server.ask('POST', `/folders/${source}/clone`, body)
}

async function fill(mount: string, files: number, bytes = 100): Promise<void> {
  for (let directory = 0; directory < 10; directory++) {
    await mkdir(join(mount, `dir-${directory}`), { recursive: true })
    for (let file = 0; file < files / 10; file++) {
      writeFileSync(join(mount, `dir-${directory}`, `file-${file}`), Buffer.alloc(bytes, file))
    }
  }
}

/** A clone that has failed leaves neither a vfolder nor bytes. */
async function assertRemoved(t: Test, server: Server, folder: string): Promise<void> {
  const { jobs } = await server.ask('GET', `/jobs?folder=${folder}&kind=delete-vfolder`)
  t.match(await ended(server, jobs[0].id), { state: 'succeeded' })
  t.equal((await server.manager('GET', `/folders/${folder}`)).status, 404)
}

t.test('a file that the service may not read', needing('setpriv'), async (t) => {
  const dataDir = await temporaryDirectory(t)
  const server = await startServer(t, { dataDir, through: withoutRoot })
  const source = await server.files()
  await source.upload({ 'dir/a.txt': 'a', 'dir/secret.txt': 'b', 'dir/z.txt': 'z' })
  await chmod(join(source.mount, 'dir/secret.txt'), 0)
  const { job, folder } = await clone(server, source.folder)
  t.match(await ended(server, job.id), {
    state: 'failed',
    attempts: 1,
    error: { code: 'entry_access_denied', detail: /dir\/secret\.txt/ },
  })
  await assertRemoved(t, server, folder.id)
  const line = server.lines().find(({ msg }) => msg === 'job failed')
  t.match(line, { request_id: job.requestId, job_id: job.id, code: 'entry_access_denied' })
})

t.test('a volume that gets full', needing('mount', 'unshare', 'mounts of its own'), async (t) => {
  const dataDir = await temporaryDirectory(t)
  const small = join(dataDir, 'small')
  await mkdir(small)
  const mount = `mount -t tmpfs -o size=8m none '${small}' && exec "$@"`
  const volumes = {
    default: { backend: 'posix', root: join(dataDir, 'default') },
    small: { backend: 'posix', root: small },
  }
  const through = [...withOwnMounts, 'sh', '-c', mount, 'sh']
  const server = await startServer(t, { dataDir, through, env: { VOLUMES: JSON.stringify(volumes) } })
  const source = await server.files()
  await server.firstCount()
  await fill(source.mount, 100, 128 * 1024)

  await t.test('in the middle, since the counters knew of nothing', async (t) => {
    const { job, folder } = await clone(server, source.folder, { volume: 'small' })
    t.match(await ended(server, job.id), { state: 'failed', error: { code: 'no_space', detail: /dir-\d\/file-\d+/ } })
    await assertRemoved(t, server, folder.id)
    const { volumes } = await server.ask('GET', '/volumes')
    t.ok(volumes[1].capacity.availableBytes > 7 * 1024 * 1024, 'the room is free again')
  })

  await t.test('before the first byte, when they know', async (t) => {
    await ended(server, (await server.ask('POST', `/folders/${source.folder}/sync`)).job.id)
    const response = await server.manager('POST', `/folders/${source.folder}/clone`, { volume: 'small' })
    t.match(await response.json(), { status: 507, code: 'no_space', wantedBytes: 100 * 128 * 1024 })
    t.equal((await server.ask('GET', '/folders')).folders.length, 1)
  })
})

t.test('a source that is deleted meanwhile', async (t) => {
  const server = await startServer(t)
  const source = await server.files()
  await fill(source.mount, 5000)
  const { job, folder } = await clone(server, source.folder)
  await eventually(async () => (await server.ask('GET', `/jobs/${job.id}`)).state === 'running')
  await server.ask('DELETE', `/folders/${source.folder}`)
  t.match(await ended(server, job.id), { state: 'failed', error: { code: /vfolder_not_found|entry_not_found/ } })
  await assertRemoved(t, server, folder.id)
})

t.test('kill -9 at any instant of a clone and of a deletion', async (t) => {
  const dataDir = await temporaryDirectory(t)
  let server = await startServer(t, { dataDir, env })
  const source = await server.files()
  await fill(source.mount, 3000)
  const { job, folder } = await clone(server, source.folder)
  const killUntilEnded = async (id: string) => {
    for (let kill = 0; kill < 3; kill++) {
      await sleep(Math.random() * 100)
      await server.end('SIGKILL')
      server = await startServer(t, { dataDir, env })
      await eventually(
        async () =>
          (await server.ask('GET', `/jobs/${id}`)).attempts > kill + 1 ||
          (await server.ask('GET', `/jobs/${id}`)).finishedAt !== null,
      )
    }
    return ended(server, id)
  }
  t.match(await killUntilEnded(job.id), { state: 'succeeded' })
  const target = await server.mountOf(folder.id)
  await run('diff', ['-r', source.mount, target])
  t.match(await server.ask('GET', `/folders/${folder.id}`), { state: 'ready', usage: { files: 3000, bytes: 300_000 } })

  const deletion = (await server.ask('DELETE', `/folders/${folder.id}`)).job
  t.match(await killUntilEnded(deletion.id), { state: 'succeeded' })
  t.same(await readdir(join(dataDir, 'volumes/default/trash')), [])
  t.match(await run('ls', [target]).catch(({ stderr }) => stderr), /No such file/)
  t.equal((await server.ask('GET', '/folders')).folders.length, 1)
  await run('diff', ['-r', source.mount, source.mount])
})

t.test('what another clock wrote', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const first = await startServer(t, { dataDir, env })
  const source = await first.files()
  await source.upload({ 'a.txt': 'a' })
  const { job } = await clone(first, source.folder)
  t.match(await ended(first, job.id), { state: 'succeeded' })
  const { job: sync } = await first.ask('POST', `/folders/${source.folder}/sync`)
  await ended(first, sync.id)
  await first.end()

  await t.test('a job that is due in an hour by it is due now', async (t) => {
    await changeDatabase(
      dataDir,
      `UPDATE jobs SET state = 'queued', finished_at = NULL, due_at = ${Date.now() + 3_600_000} WHERE id = '${sync.id}'`,
    )
    const second = await startServer(t, { dataDir, env })
    t.match(await ended(second, sync.id), { state: 'succeeded', attempts: 2 })
    await second.end()
  })

  await t.test('the newest clone is the one that was started last, not the one with the latest time', async (t) => {
    const id = randomUUID()
    const second = await startServer(t, { dataDir, env })
    const { job: cancelled } = await clone(second, source.folder, { id })
    await ended(second, cancelled.id)
    await second.ask('DELETE', `/folders/${id}`)
    await eventually(async () => (await second.manager('DELETE', `/folders/${id}`)).status === 404)
    await changeDatabase(
      dataDir,
      `UPDATE jobs SET created_at = '2100-01-01T00:00:00.000Z' WHERE id = '${cancelled.id}'`,
    )
    const { job: again } = await clone(second, source.folder, { id })
    t.not(again.id, cancelled.id)
    t.equal((await clone(second, source.folder, { id })).job.id, again.id)
    await ended(second, again.id)
    await second.end()
  })

  await t.test('a job whose processes all died is given up', async (t) => {
    await changeDatabase(
      dataDir,
      `UPDATE jobs SET state = 'running', finished_at = NULL, process = 'dead', failures = 4 WHERE id = '${sync.id}'`,
    )
    const third = await startServer(t, { dataDir, env })
    t.match(await ended(third, sync.id), { state: 'failed', error: { code: 'job_abandoned' } })
  })
})

t.test(
  'a deletion that is killed more often than a job may fail goes on as long as it removes something',
  needing('strace'),
  async (t) => {
    const dataDir = await temporaryDirectory(t)
    let server = await startServer(t, { dataDir, env })
    const files = await server.files()
    await fill(files.mount, 3000, 10)
    // So slowly that it is killed in the middle.
    const strace = await Strace.attach(t, server.process, 'inject=unlink,unlinkat:delay_enter=5000')
    const { job } = await server.ask('DELETE', `/folders/${files.folder}`)
    await eventually(async () => (await server.ask('GET', `/jobs/${job.id}`)).progress.filesDone > 0)
    // A process that is killed within a delay is never let go by strace.
    server.process.kill('SIGSTOP')
    await strace.detach()
    await server.end('SIGKILL')
    await changeDatabase(dataDir, `UPDATE jobs SET failures = 3 WHERE id = '${job.id}'`)
    server = await startServer(t, { dataDir, env })
    const answer = await ended(server, job.id, 120_000)
    t.match(answer, { state: 'succeeded', attempts: 2, progress: { filesDone: answer.result.files } })
    t.ok(answer.progress.bytesDone > 0 && answer.progress.bytesDone === 10 * answer.progress.filesDone)
  },
)

t.test('a volume that is away for a while', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_CLEANUP_INTERVAL_SECONDS: '1', IDLE_TIMEOUT_SECONDS: '1' } })
  const source = await server.files()
  await source.upload({ 'a.txt': 'a' })
  const volume = join(server.dataDir, 'volumes/default')
  await rename(volume, `${volume}.away`)
  const response = await server.manager('DELETE', `/folders/${source.folder}`, undefined, {
    [requestIdHeader]: 'patient',
  })
  const { job } = (await response.json()) as Answer
  const events = server.manager('GET', `/jobs/${job.id}/events`).then((response) => response.text())
  const failing = await eventually(async () => {
    const answer = await server.ask('GET', `/jobs/${job.id}`)
    return answer.attempts >= 2 && answer.error !== undefined && answer
  })
  t.match(failing, { error: { code: 'volume_unavailable', detail: /may not be mounted/ } })
  await rename(`${volume}.away`, volume)
  t.match(await ended(server, job.id), { state: 'succeeded', error: undefined, requestId: 'patient' })
  t.match(await events, /event: succeeded/, 'who follows it is not cut off while nothing happens')
  const lines = server.lines().filter(({ job_id }) => job_id === job.id)
  t.ok(lines.some(({ msg }) => msg === 'attempt failed and will be repeated'))
  for (const line of lines) t.equal(line.request_id, 'patient')

  await t.test('for longer than a job is patient', async (t) => {
    const folder = await server.createFolder()
    await rename(volume, `${volume}.away`)
    const { job } = await server.ask('DELETE', `/folders/${folder}`)
    t.match(await ended(server, job.id, 60_000), { state: 'failed', error: { code: 'volume_unavailable' } })
    await rename(`${volume}.away`, volume)
    const { jobs } = await eventually(async () => {
      const answer = await server.ask('GET', `/jobs?folder=${folder}`)
      return answer.jobs[0].state === 'succeeded' && answer
    }, 30_000)
    t.not(jobs[0].id, job.id)
    t.equal(jobs[0].requestId, job.requestId, 'the next job goes on under the same request ID')
    t.equal((await server.manager('DELETE', `/folders/${folder}`)).status, 404)
  })
})

t.test('a volume that is not configured any more costs a sync one line', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const volumes = Object.fromEntries(
    ['default', 'gone'].map((name) => [name, { backend: 'posix', root: join(dataDir, name) }]),
  )
  const first = await startServer(t, { dataDir, env: { VOLUMES: JSON.stringify(volumes) } })
  const folders: string[] = []
  for (let count = 0; count < 3; count++) folders.push(await first.createFolder({ volume: 'gone' }))
  await first.createFolder()
  await first.end()

  const { gone: _, ...left } = volumes
  const env = {
    VOLUMES: JSON.stringify(left),
    QUOTA_SYNC_INTERVAL_SECONDS: '1',
    UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
  }
  const second = await startServer(t, { dataDir, env })
  const sync = await second.logged(({ msg, result }) => msg === 'job succeeded' && result !== undefined)
  t.match(sync, { result: { folders: 1, failed: 0 } })
  const warnings = second.linesOf(sync.request_id!).filter(({ level }) => level > 30)
  t.match(warnings, [{ level: 40, volume: 'gone', msg: /no process has/ }])
  t.equal(warnings.length, 1)

  await t.test('and a deletion waits for it', async (t) => {
    const { job } = await second.ask('DELETE', `/folders/${folders[0]}`)
    await second.logged(({ msg, volume }) => msg.startsWith('jobs wait for a process') && volume === 'gone')
    t.match(await second.ask('GET', `/jobs/${job.id}`), { state: 'queued', attempts: 0 })
    await sleep(2000)
    t.equal((await second.ask('GET', `/jobs?folder=${folders[0]}`)).jobs.length, 1, 'without one job after the other')
    t.equal(second.lines().filter(({ msg }) => msg.startsWith('jobs wait for a process')).length, 1)
    await second.end()
    const third = await startServer(t, { dataDir, env: { ...env, VOLUMES: JSON.stringify(volumes) } })
    t.match(await ended(third, job.id), { state: 'succeeded', requestId: job.requestId })
  })
})
