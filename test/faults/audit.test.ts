import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { asBackendAi, backendAiSecret, send } from '../backend-ai.ts'
import { readDatabase } from '../database.ts'
import { type Answer, ended, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'
import { startOnSmallDataDir } from '../small-volume.ts'
import { needing, searchPath } from '../tools.ts'

/** Under an ID, to a path that may be written again and again. */
async function put(url: string, id: string): Promise<{ status: number; detail?: string }> {
  const response = await fetch(url, { method: 'PUT', body: 'x'.repeat(100), headers: { [requestIdHeader]: id } })
  const { detail }: Answer = await response.json()
  return { status: response.status, detail }
}

async function signedFor(server: Server, folder: string, operation: string): Promise<string> {
  const body = { operation, paths: ['a.txt'] }
  return (await server.ask('POST', `/folders/${folder}/signed-urls`, body)).signedUrls[0].url
}

t.test('a full disk below the table', needing('mount', 'unshare', 'mounts of its own'), async (t) => {
  const { server, dataDir } = await startOnSmallDataDir(t, 2, { BACKEND_AI_MANAGER_SECRET: backendAiSecret })
  const quotaScope = `user:${randomUUID()}`
  const folder = await server.createFolder({ quotaScope })
  const upload = await signedFor(server, folder, 'upload')
  const download = await signedFor(server, folder, 'download')
  const statuses = [(await put(upload, 'put-0')).status]
  const filler = join(dataDir, 'filler')
  await writeFile(filler, Buffer.alloc(4 * 1024 * 1024)).catch(() => {})

  const refused = await eventually(async () => {
    const answer = await put(upload, `put-${statuses.length}`)
    statuses.push(answer.status)
    // The first one may find out by itself.
    return answer.status === 503 && / audit table/.test(String(answer.detail)) && answer
  })
  t.match(refused.detail, /disk is full.*could not be written into the audit table, so it is not done/)
  const read = await fetch(download, { headers: { [requestIdHeader]: 'read' } })
  t.equal((await read.text()).length, 100, 'reading goes on')
  const vfid = `${quotaScope}/${folder.replaceAll('-', '')}`
  const call = (path: string, relpath: string) =>
    asBackendAi(server, 'POST', path, { volume: 'default', vfid, relpath }, { [requestIdHeader]: 'theirs' })
  const mkdir = await call('/folder/file/mkdir', 'dir')
  t.match(mkdir, { status: 503, json: { msg: /could not be written into the audit table, so it is not done/ } })
  const { token } = (await call('/folder/file/download', 'a.txt')).json
  const theirs = `${server.url}/backend-ai/download?token=${token}`
  t.equal((await send('GET', theirs, undefined, { [requestIdHeader]: 'their-read' })).text.length, 100)
  t.match((await call('/folder/file/list', '.')).json.items, [{ name: 'a.txt' }], 'nothing was made')

  await rm(filler)
  await eventually(async () => {
    statuses.push((await put(upload, `put-${statuses.length}`)).status)
    return statuses.at(-1) !== 503
  })
  const outcomeOf = async (id: string) => (await server.ask('GET', `/requests/${id}`)).chapters[0].outcome
  for (const [index, status] of statuses.entries()) {
    const expected = status === 503 ? 'failed: database_unavailable' : 'succeeded'
    t.equal(await outcomeOf(`put-${index}`), expected, `${index}: ${status}`)
  }
  t.equal(await outcomeOf('read'), 'succeeded')
  const { chapters } = await server.ask('GET', '/requests/theirs')
  t.match(
    chapters.map(({ outcome }: Answer) => outcome),
    ['failed: database_unavailable', 'succeeded', 'succeeded'],
  )
  const keyOf = async (id: string) => (await server.ask('GET', `/requests/${id}`)).chapters[0].actor.split(':')
  t.same(await keyOf('their-read'), ['backend-ai-token', (await keyOf('read'))[1]], 'one key signs both')
  t.equal(await server.end(), 0)
})

t.test('a process that is killed loses no row of what it has answered', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '1' }
  const first = await startServer(t, { dataDir, env })
  const folder = await first.createFolder()
  const upload = await signedFor(first, folder, 'upload')
  await Promise.all(Array.from({ length: 20 }, (_, index) => put(upload, `put-${index}`)))
  const { job } = await first.ask('POST', `/folders/${folder}/clone`, {})
  first.process.kill('SIGKILL')
  const stored = await readDatabase(dataDir, `select distinct request_id from audit where action = 'file.store'`)
  t.equal(stored.length, 20)

  const second = await startServer(t, { dataDir, env })
  await ended(second, job.id)
  const { chapters } = await second.ask('GET', `/requests/${job.requestId}`)
  const { events, outcome } = chapters.find(({ kind }: Answer) => kind === 'job')
  t.equal(outcome, 'succeeded')
  const attempts = events.filter(({ action }: Answer) => action === 'job.attempt')
  t.equal(attempts.at(-1).count, attempts.length, 'each attempt is told of')
})

t.test('a pipe as the file, without a reader and with one that does not read', async (t) => {
  const directory = await temporaryDirectory(t)
  const pipe = join(directory, 'pipe')
  execFileSync('mkfifo', [pipe], { env: { PATH: searchPath } })
  const start = () => startServer(t, { env: { AUDIT_LOG_FILE: pipe } })
  await t.rejects(start(), { message: /AUDIT_LOG_FILE must name a file that can be written to, not .*pipe: .*ENXIO/ })

  const reader = await open(pipe, constants.O_RDONLY | constants.O_NONBLOCK)
  t.teardown(() => reader.close())
  const server = await start()
  const folder = await server.createFolder()
  const names = Array.from({ length: 500 }, (_, index) => `${index}-${'x'.repeat(100)}`)
  await server.upload(folder, Object.fromEntries(names.map((name) => [name, ''])))
  const asked = performance.now()
  t.equal(await server.end(), 0)
  t.ok(performance.now() - asked < 10_000, 'it does not wait for the reader')
  await server.logged(({ msg, file }) => msg === 'AUDIT_LOG_FILE cannot be written to' && file === pipe)
})
