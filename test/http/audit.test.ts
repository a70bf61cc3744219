import { readFile, rename } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { assertRows, rowsOf } from '../audit.ts'
import { changeDatabase, readDatabase } from '../database.ts'
import {
  type Answer,
  ended,
  eventually,
  managerToken,
  type Server,
  startServer,
  temporaryDirectory,
} from '../server.ts'

/** A call as the manager, under a request ID. */
async function under(server: Server, id: string, method: string, path: string, body?: object): Promise<Answer> {
  const response = await server.manager(method, path, body, { [requestIdHeader]: id })
  return response.status === 204 ? {} : response.json()
}

t.test('an audit trail', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const auditLog = join(dataDir, 'audit.log')
  const env = {
    MANAGER_TOKENS: `control=${managerToken}`,
    AUDIT_LOG_FILE: auditLog,
    TRASH_RETENTION_SECONDS: '60',
    EVENTS: 'on',
  }
  const server = await startServer(t, { dataDir, env })
  t.teardown(() => server.end())
  const actor = 'manager:control'
  const { id: folder } = await under(server, 'made', 'POST', '/folders', {})
  const sign = async (operation: string, path: string, id = 'signed') => {
    const body = { operation, paths: path === '' ? [] : [path] }
    return (await under(server, id, 'POST', `/folders/${folder}/signed-urls`, body)).signedUrls[0]
  }
  const asClient = (id: string, url: string, init: RequestInit = {}) =>
    fetch(url, { ...init, headers: { ...init.headers, [requestIdHeader]: id } })

  await t.test('what the manager changes, and what it may not', async (t) => {
    const there = { volume: 'default', vfolder: folder, actor, outcome: 'succeeded', origin_request_id: null }
    await assertRows(t, server, 'made', [{ ...there, action: 'folder.create' }])

    await under(server, 'changed', 'POST', `/folders/${folder}/files/mkdir`, { path: 'd' })
    await server.upload(folder, { 'a.txt': 'abc' })
    await under(server, 'changed', 'POST', `/folders/${folder}/files/move`, { from: 'a.txt', to: 'd/b.txt' })
    await under(server, 'changed', 'POST', `/folders/${folder}/files/copy`, { from: 'd/b.txt', to: 'c.txt' })
    await under(server, 'changed', 'POST', `/folders/${folder}/files/copy`, { from: 'd/b.txt', to: 'c.txt' })
    await under(server, 'changed', 'PATCH', `/folders/${folder}`, { quota: { bytes: 1000 } })
    await under(server, 'changed', 'PUT', '/quota-scopes/user:ada', { bytes: 1 })
    const deletion = { paths: ['c.txt', 'none'], permanent: true }
    await under(server, 'changed', 'POST', `/folders/${folder}/files/delete`, deletion)
    const refused = { outcome: 'refused', code: 'entry_exists' }
    const rows = await assertRows(t, server, 'changed', [
      { ...there, action: 'directory.create', path: 'd' },
      { ...there, action: 'entry.move', path: 'd/b.txt', subject: `${folder}/a.txt` },
      { ...there, action: 'entry.copy', path: 'c.txt', subject: `${folder}/d/b.txt`, bytes: 3 },
      { ...there, action: 'entry.copy', path: 'c.txt', subject: `${folder}/d/b.txt`, ...refused },
      { ...there, action: 'folder.update' },
      { action: 'quota-scope.set', subject: 'user:ada', outcome: 'succeeded' },
      { ...there, action: 'entry.delete', path: 'c.txt', bytes: 3 },
    ])
    t.ok(rows.every(({ time }) => Math.abs(Date.now() - time) < 60_000))
  })

  await t.test('who opens what was signed', async (t) => {
    const signed = { actor, action: 'url.sign', vfolder: folder, volume: 'default', outcome: 'succeeded' }
    const by = { actor: /^signed-url:[\w-]{8}$/, origin_request_id: 'signed', vfolder: folder, volume: 'default' }
    const upload = await sign('upload', 'in.txt')
    t.equal((await asClient('c-put', upload.url, { method: 'PUT', body: 'hello' })).status, 201)
    const download = await sign('download', 'in.txt')
    for (const range of ['bytes=0-1', 'bytes=9-']) await asClient('c-get', download.url, { headers: { range } })
    await asClient('c-get', download.url, { method: 'HEAD' })
    const archive = await asClient('c-zip', (await sign('archive', '')).url)
    const { byteLength } = await archive.arrayBuffer()
    const broken = request(await sign('upload', 'broken.txt', 'signed-broken').then(({ url }) => url), {
      method: 'PUT',
      headers: { 'content-length': 900, [requestIdHeader]: 'c-broken' },
    })
    broken.on('error', () => {})
    broken.write(Buffer.alloc(400))
    await server.logged(({ request_id }) => request_id === 'c-broken')
    await setTimeout(500)
    broken.destroy()
    const [, aborted] = await rowsOf(server, 'signed-broken', 2)
    const opened = { ...by, origin_request_id: 'signed-broken' }
    t.match(aborted, { ...opened, action: 'file.store', outcome: 'aborted', bytes: 400 })
    await assertRows(t, server, 'signed', [
      { ...signed, path: 'in.txt', subject: 'upload' },
      { ...by, request_id: 'c-put', action: 'file.store', path: 'in.txt', bytes: 5, outcome: 'succeeded' },
      { ...signed, subject: 'download' },
      { ...by, request_id: 'c-get', action: 'file.read', path: 'in.txt', bytes: 2, outcome: 'succeeded' },
      { request_id: 'c-get', action: 'file.read', outcome: 'refused', code: 'range_not_satisfiable', bytes: null },
      { ...signed, subject: 'archive' },
      { ...by, request_id: 'c-zip', action: 'archive.read', bytes: byteLength, outcome: 'succeeded' },
    ])
  })

  await t.test('a resumable upload', async (t) => {
    const { tusUrl } = await sign('upload', 'tus.bin', 'tus')
    const tus = { 'tus-resumable': '1.0.0' }
    const begun = await asClient('t-1', tusUrl, { method: 'POST', headers: { ...tus, 'upload-length': '6' } })
    const location = begun.headers.get('location')!
    const type = 'application/offset+octet-stream'
    for (const offset of ['0', '3']) {
      const headers = { ...tus, 'upload-offset': offset, 'content-type': type }
      await asClient(`t-at-${offset}`, location, { method: 'PATCH', headers, body: 'abc' })
    }
    const rows = await assertRows(t, server, 'tus', [
      { action: 'url.sign', path: 'tus.bin' },
      { request_id: 't-1', action: 'upload.begin', path: 'tus.bin', bytes: 6, actor: /^signed-url:/ },
      {
        request_id: 't-at-0',
        action: 'upload.append',
        path: 'tus.bin',
        bytes: 3,
        volume: 'default',
        actor: /^upload:/,
      },
      { request_id: 't-at-3', action: 'file.store', bytes: 6, path: 'tus.bin' },
      { request_id: 't-at-3', action: 'upload.append', outcome: 'succeeded', bytes: 3 },
    ])
    t.same(new Set(rows.slice(1).map(({ subject }) => subject)), new Set([location.split(/[/?]/).at(-2)]))
  })

  await t.test('a job, with the process that ran it', async (t) => {
    const { job, folder: clone } = await under(server, 'cloned', 'POST', `/folders/${folder}/clone`, {})
    await ended(server, job.id)
    const of = { vfolder: clone.id, volume: 'default' }
    const rows = await assertRows(t, server, 'cloned', [
      { ...of, action: 'job.queue', actor, subject: job.id },
      { ...of, action: 'folder.clone', actor, subject: folder, outcome: 'begun' },
      { ...of, action: 'job.attempt', actor: 'job:clone-vfolder', subject: job.id, outcome: 'begun', count: 1 },
      {
        ...of,
        action: 'folder.clone',
        actor: 'job:clone-vfolder',
        subject: folder,
        outcome: 'succeeded',
        bytes: Number,
      },
      { ...of, action: 'job.end', actor: 'job:clone-vfolder', subject: job.id, outcome: 'succeeded', process: String },
    ])
    t.equal(rows[0].act, rows[1].act, 'rows of one request')
    t.equal(rows[2].process, rows[4].process)

    await under(server, 'too-late', 'POST', `/jobs/${job.id}/retry`)
    await under(server, 'too-late', 'DELETE', `/jobs/${job.id}`)
    const refused = { vfolder: null, subject: job.id, outcome: 'refused', code: 'job_ended' }
    await assertRows(t, server, 'too-late', [
      { action: 'job.retry', ...refused },
      { action: 'job.cancel', ...refused },
    ])
    const moving = { from: 'absent', to: 'there', toFolder: clone.id }
    await under(server, 'from-where', 'POST', `/folders/${folder}/files/move`, moving)
    await under(server, 'from-where', 'POST', `/folders/${folder}/files/copy`, { from: 'absent', to: 'there' })
    await under(server, 'from-where', 'POST', `/folders/${folder}/clone`, { id: folder })
    const from = { volume: 'default', subject: `${folder}/absent`, path: 'there', outcome: 'refused' }
    await assertRows(t, server, 'from-where', [
      { ...from, action: 'entry.move', vfolder: clone.id },
      { ...from, action: 'entry.copy', vfolder: folder },
      { action: 'folder.clone', vfolder: folder, subject: folder, outcome: 'refused' },
    ])
  })

  await t.test('what a deletion that is broken off has deleted', async (t) => {
    await server.upload(folder, { 'first.txt': 'x', 'second.txt': 'xx', 'full/sub': 'x' })
    for (const paths of [
      ['first.txt', 'full'],
      ['none', 'second.txt'],
      ['full', 'none'],
    ])
      await under(server, 'broken-off', 'POST', `/folders/${folder}/files/delete`, { paths, permanent: true })
    const refused = { action: 'entry.delete', outcome: 'refused', code: 'directory_not_empty', count: 2 }
    await assertRows(t, server, 'broken-off', [
      { action: 'entry.delete', path: 'first.txt', bytes: 1, outcome: 'succeeded' },
      refused,
      { action: 'entry.delete', path: 'second.txt', bytes: 2, outcome: 'succeeded' },
      refused,
    ])
  })

  await t.test('what is about no vfolder that is known', async (t) => {
    await under(server, 'elsewhere', 'POST', '/volumes/nope/orphans/adopt', {})
    await under(server, 'elsewhere', 'POST', '/events/dead-letters/send', { target: 'nobody' })
    await assertRows(t, server, 'elsewhere', [
      { action: 'folder.adopt', volume: 'nope', vfolder: null, outcome: 'refused', actor },
      { action: 'event.send', subject: 'nobody', outcome: 'refused', code: 'event_target_not_found', actor },
    ])
  })

  await t.test('what a job does is told as done when it is', async (t) => {
    await server.upload(folder, { 'keep/sub': 'x', 'away.txt': 'four' })
    const inBackground = async (id: string, operation: string, body: object) => {
      const url = `/folders/${folder}/files/${operation}`
      const { job } = await under(server, id, 'POST', url, { ...body, background: true })
      return ended(server, job.id)
    }
    t.match(await inBackground('not-empty', 'delete', { paths: ['keep'], permanent: true }), { state: 'failed' })
    const told = await assertRows(t, server, 'not-empty', [
      { action: 'job.queue', actor },
      { action: 'entry.delete', actor, path: 'keep', outcome: 'begun' },
      { action: 'job.attempt', outcome: 'begun' },
      { action: 'job.end', outcome: 'failed', code: 'directory_not_empty' },
    ])
    t.equal(told[0].act, told[1].act)
    await inBackground('moved', 'move', { from: 'away.txt', to: 'there.txt' })
    const rows = await rowsOf(server, 'moved', 5)
    const moves = rows.filter((row) => row.action === 'entry.move')
    t.same(moves.map((row) => [row.actor, row.outcome]).toSorted(), [
      ['job:move-entry', 'succeeded'],
      [actor, 'begun'],
    ])
    const byJob = rows.filter((row) => row.actor === 'job:move-entry')
    t.equal(new Set(byJob.map(({ act }) => act)).size, 1, 'rows of one job')
    t.equal(byJob[0].act, rows.find((row) => row.action === 'job.queue')?.subject)
  })

  await t.test('the trash', async (t) => {
    const deletion = await under(server, 'thrown', 'POST', `/folders/${folder}/files/delete`, { paths: ['in.txt'] })
    t.same(deletion.deleted, ['in.txt'])
    const { entries } = await server.ask('GET', `/folders/${folder}/trash`)
    await under(server, 'back', 'POST', `/folders/${folder}/trash/${entries[0].id}/restore`, {})
    await assertRows(t, server, 'thrown', [
      { action: 'entry.delete', path: 'in.txt', bytes: 5, subject: entries[0].id },
      { request_id: 'back', action: 'entry.restore', path: 'in.txt', subject: entries[0].id },
    ])
  })

  await t.test('as JSON lines, in a new file after SIGHUP', async (t) => {
    const lines = async (file: string) => (await readFile(file, 'utf8')).split('\n').filter(Boolean)
    const parsed = (await lines(auditLog)).map((line): Answer => JSON.parse(line))
    const { action, vfolder, time } = parsed.find(({ request_id }) => request_id === 'made')
    t.match({ action, vfolder, time }, { action: 'folder.create', vfolder: folder, time: /^\d{4}-.*Z$/ })
    t.ok(parsed.some((line) => line.request_id === 'c-get' && line.bytes === 2))

    await rename(auditLog, `${auditLog}.1`)
    server.process.kill('SIGHUP')
    const answer = async () => lines(auditLog).catch(() => undefined)
    await eventually(answer)
    await under(server, 'after', 'PATCH', `/folders/${folder}`, { metadata: {} })
    await eventually(async () => (await answer())?.some((line) => line.includes('"after"')))
    t.notMatch(await lines(`${auditLog}.1`), [/"after"/])
  })
  t.equal(await server.end(), 0)
})

t.test('rows are removed when they are old', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const first = await startServer(t, { dataDir, env: { AUDIT: 'off' } })
  const folder = await first.createFolder()
  await first.upload(folder, { 'a.txt': 'abc' })
  await first.end()
  t.same(await readDatabase(dataDir, 'select * from audit'), [], 'AUDIT=off writes none')

  const day = 86_400_000
  const insert = `insert into audit (time, request_id, actor, action, outcome) values`
  const values = Array.from({ length: 2500 }, (_, index) => `(${Date.now() - 3 * day - index}, 'x', 'y', 'z', 'w')`)
  await changeDatabase(dataDir, `${insert} ${values.join()}, (${Date.now() - day}, 'kept', 'y', 'z', 'w')`)
  await startServer(t, { dataDir, env: { AUDIT_RETENTION_DAYS: '2' } })
  const known = () => readDatabase(dataDir, `select request_id from audit where request_id in ('x', 'kept')`)
  t.same(await eventually(async () => (await known()).length === 1 && known()), [{ request_id: 'kept' }])
})
