import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, ended, eventually, startServer, temporaryDirectory } from '../server.ts'

const dataDir = await temporaryDirectory(t)
const root = join(dataDir, 'default')
mkdirSync(root)
const server = await startServer(t, {
  dataDir,
  env: {
    BACKEND_PLUGINS: fileURLToPath(new URL('../failing-backend.ts', import.meta.url)),
    VOLUMES: JSON.stringify({ default: { backend: 'failing', root } }),
    // Deletions begin anew with it.
    UPLOAD_CLEANUP_INTERVAL_SECONDS: '3600',
  },
})

function breakDown(call: string, how = 'for good'): () => void {
  const file = join(root, `fail-${call}`)
  writeFileSync(file, how)
  return () => rmSync(file)
}

const failed = { outcome: 'failed', startedAt: String, endedAt: String, error: { code: 'entry_access_denied' } }
const succeeded = { outcome: 'succeeded', error: undefined }

async function retry(job: string, id = 'the-retry'): Promise<Answer> {
  const response = await server.manager('POST', `/jobs/${job}/retry`, undefined, { [requestIdHeader]: id })
  return { status: response.status, location: response.headers.get('location'), ...((await response.json()) as object) }
}

/** What a job had made is removed before it can begin anew. */
async function retryOnceRemoved(job: string): Promise<Answer> {
  return eventually(async () => {
    const answer = await retry(job)
    if (answer.status === 202) return answer
    t.match(answer, { status: 409, code: 'job_not_retryable' })
    return false
  })
}

async function fill(): Promise<string> {
  const folder = await server.createFolder()
  await server.upload(folder, { 'tree/a': 'one', 'tree/b': 'two', fails: '123' })
  return folder
}

async function usageOf(folder: string): Promise<{ files: number; bytes: number }> {
  const { files, bytes } = (await server.ask('GET', `/folders/${folder}`)).usage
  return { files, bytes }
}

t.test('a deletion that failed ends after its retry', async (t) => {
  const folder = await fill()
  const mend = breakDown('removeFolder')
  const { job } = await server.ask('DELETE', `/folders/${folder}`)
  const before = await ended(server, job.id)
  t.match(before, { state: 'failed', attempts: 1, history: [{ number: 1, ...failed }] })
  mend()
  const answer = await retry(job.id)
  t.match(answer, { status: 202, location: `/jobs/${job.id}`, id: job.id, state: 'queued', finishedAt: null })
  const after = await ended(server, job.id)
  t.match(after, { state: 'succeeded', attempts: 2, requestId: job.requestId, error: undefined })
  t.match(after.history, [
    { number: 1, process: before.history[0].process, ...failed },
    { number: 2, process: before.history[0].process, ...succeeded },
  ])
  t.equal((await server.manager('POST', '/folders', { id: folder })).status, 201, 'the ID is free again')
  t.match(server.linesOf('the-retry'), [
    {},
    { msg: 'job queued once more', job_id: job.id, origin_request_id: job.requestId },
    {},
  ])
  t.match(await retry(job.id), { status: 409, code: 'job_ended' })
  t.match(await retry(randomUUID()), { status: 404, code: 'job_not_found' })
})

t.test('a failure that passes is an attempt of its own', async (t) => {
  const folder = await fill()
  const mend = breakDown('removeFolder', 'for a moment')
  const { job } = await server.ask('DELETE', `/folders/${folder}`)
  const waiting = await eventually(async () => {
    const now = await server.ask('GET', `/jobs/${job.id}`)
    return now.attempts === 1 && now.state === 'queued' && now
  })
  t.match(waiting.history, [{ outcome: 'repeated', error: { code: 'storage_unavailable', detail: 'no tape' } }])
  t.match(await retry(job.id), { status: 409, code: 'job_not_ended' })
  mend()
  t.match((await ended(server, job.id)).history, [
    { number: 1, outcome: 'repeated' },
    { number: 2, ...succeeded },
  ])
})

t.test('a clone that failed is made anew, as it was asked for', async (t) => {
  const source = await fill()
  await server.ask('PUT', '/quota-scopes/user-1', { bytes: 5000 })
  const mend = breakDown('write')
  const body = { quota: { bytes: 1000 }, quotaScope: 'user-1', metadata: { name: 'copy' } }
  const { job, folder } = await server.ask('POST', `/folders/${source}/clone`, body)
  t.match(await ended(server, job.id), { state: 'failed' })
  mend()
  await retryOnceRemoved(job.id)
  t.match(await ended(server, job.id), { state: 'succeeded', attempts: 2, result: { files: 3, bytes: 9 } })
  t.match(await server.ask('GET', `/folders/${folder.id}`), { state: 'ready', ...body, usage: { files: 3, bytes: 9 } })
  t.match(await server.ask('GET', '/quota-scopes/user-1'), { usage: { files: 3, bytes: 9 } })
  const same = await server.ask('POST', `/folders/${source}/clone`, { id: folder.id })
  t.equal(same.job.id, job.id)

  await t.test('unless its name is taken', async (t) => {
    const id = randomUUID()
    const mend = breakDown('write')
    const { job } = await server.ask('POST', `/folders/${source}/clone`, { id })
    await ended(server, job.id)
    mend()
    await eventually(async () => (await server.manager('POST', '/folders', { id })).status === 201)
    t.match(await retry(job.id), { status: 409, code: 'vfolder_exists' })
    await server.ask('DELETE', `/folders/${source}`)
    t.match(await retry(job.id), { status: 404, code: 'vfolder_not_found' })
    t.match(await server.ask('GET', `/jobs/${job.id}`), { state: 'failed', attempts: 1 }, 'it is as it was')
  })
})

t.test('a copy that failed begins anew', async (t) => {
  const folder = await fill()
  const mend = breakDown('copy')
  const url = `/folders/${folder}/files/copy`
  const { job } = await server.ask('POST', url, { from: 'tree', to: 'copy' })
  t.match(await ended(server, job.id), { state: 'failed' })
  mend()
  await retryOnceRemoved(job.id)
  t.match(await ended(server, job.id), { state: 'succeeded', result: { files: 2, bytes: 6 } })
  t.same(await usageOf(folder), { files: 5, bytes: 15 })
})

t.test('a deletion of entries goes on where it has failed, and so does a move', async (t) => {
  const folder = await fill()
  const background = async (operation: string, body: object) =>
    (await server.ask('POST', `/folders/${folder}/files/${operation}`, { ...body, background: true })).job
  const mendRemove = breakDown('remove')
  const deletion = await background('delete', { paths: ['tree/a', 'fails', 'tree/b'] })
  t.match(await ended(server, deletion.id), { state: 'failed', progress: { filesDone: 1, bytesDone: 3 } })
  t.same(await usageOf(folder), { files: 2, bytes: 6 })
  mendRemove()
  await retry(deletion.id)
  const whole = { files: 3, bytes: 9, deletedCount: 3, missingCount: 0 }
  t.match(await ended(server, deletion.id), { state: 'succeeded', result: whole, history: [failed, succeeded] })

  await server.upload(folder, { 'tree/c': 'three' })
  const mendMove = breakDown('move')
  const move = await background('move', { from: 'tree', to: 'moved' })
  t.match(await ended(server, move.id), { state: 'failed' })
  mendMove()
  await retry(move.id)
  t.match(await ended(server, move.id), { state: 'succeeded', result: { to: 'moved' } })
  t.same(
    (await server.ask('GET', `/folders/${folder}/files`)).entries.map(({ path }: Answer) => path),
    ['moved'],
  )
})

t.test('jobs are counted by kind and state', async (t) => {
  const { kinds } = await server.ask('GET', '/jobs/summary')
  const byKind = new Map(kinds.map((one: Answer) => [one.kind, one]))
  t.match(byKind.get('clone-vfolder'), { succeeded: 1, failed: 1, cancelled: 0, queued: 0, running: 0 })
  t.match(byKind.get('empty-trash'), { succeeded: 0, failed: 0, oldestQueuedSeconds: null }, 'also what never was')

  const folder = await fill()
  const mend = breakDown('removeFolder', 'for a moment')
  const { job } = await server.ask('DELETE', `/folders/${folder}`)
  const queued = await eventually(async () => {
    const { kinds } = await server.ask('GET', '/jobs/summary')
    const found = kinds.find(({ kind }: Answer) => kind === 'delete-vfolder')
    return found.queued === 1 && found
  })
  t.ok(queued.oldestQueuedSeconds >= 0 && queued.oldestQueuedSeconds < 30)
  mend()
  await ended(server, job.id)
})
