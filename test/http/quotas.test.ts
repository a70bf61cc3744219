import { execFile } from 'node:child_process'
import { mkdir, readdir, rename, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { changeDatabase, readDatabase } from '../database.ts'
import {
  type Answer,
  ended,
  eventually,
  type Files,
  managerToken,
  type Server,
  startServer,
  temporaryDirectory,
} from '../server.ts'

const run = promisify(execFile)
const size = 300_000

/** The bytes of all files below a directory, as `du` counts them. */
async function du(directory: string): Promise<{ bytes: number; files: number }> {
  const { stdout } = await run('sh', ['-c', `find '${directory}' -type f -printf '%s\\n'`])
  const sizes = stdout.split('\n').filter(Boolean).map(Number)
  return { bytes: sizes.reduce((sum, bytes) => sum + bytes, 0), files: sizes.length }
}

async function put(files: Files, name: string, bytes: number, how: 'sized' | 'chunked' = 'sized'): Promise<Answer> {
  if (how === 'chunked') return putChunked(files, name, bytes)
  const form = new FormData()
  form.append('file', new Blob([new Uint8Array(bytes)]), name)
  const response = await files.server.manager('POST', `/folders/upload?folder=${files.folder}`, form)
  return { status: response.status, ...((await response.json()) as object) }
}

/** Without a Content-Length. */
async function putChunked(files: Files, name: string, bytes: number): Promise<Answer> {
  const boundary = 'the-boundary'
  const headers = {
    authorization: `Bearer ${managerToken}`,
    'content-type': `multipart/form-data; boundary=${boundary}`,
  }
  const sent = request(`${files.server.url}/folders/upload?folder=${files.folder}`, { method: 'POST', headers })
  const answered = new Promise<Answer>((resolve, reject) =>
    sent
      .on('response', async (response) => {
        let text = ''
        for await (const chunk of response) text += chunk
        resolve({ status: response.statusCode, ...JSON.parse(text) })
      })
      .on('error', reject),
  )
  sent.write(`--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${name}"\r\n\r\n`)
  for (let left = bytes; left > 0; left -= 10_000) sent.write(Buffer.alloc(Math.min(left, 10_000)))
  sent.end(`\r\n--${boundary}--\r\n`)
  return answered
}

async function limited(server: Server, quota: object, more: object = {}): Promise<Files> {
  const files = await server.files()
  const { folder } = files
  await server.ask('PATCH', `/folders/${folder}`, { quota, ...more })
  return files
}

const server = await startServer(t)

t.test('fifty uploads at once against a quota that fits ten', async (t) => {
  const files = await limited(server, { bytes: 10 * size })
  const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => put(files, `file-${index}`, size)))
  const stored = answers.filter(({ status }) => status === 201)
  t.equal(stored.length, 10)
  for (const answer of answers) {
    if (answer.status === 201) continue
    t.match(answer, { status: 507, code: 'quota_exceeded', limit: 'vfolder', unit: 'bytes', quota: 10 * size })
  }
  t.same(await du(files.mount), { bytes: 10 * size, files: 10 })
  t.same(await files.usage(), { bytes: 10 * size, files: 10 })
  t.same(await server.staged(), [])

  await t.test('and it is full to the byte', async (t) => {
    t.equal((await put(files, 'one-more', 1)).status, 507)
    t.equal((await put(files, 'empty', 0)).status, 201)
    t.equal((await put(files, 'more-chunked', 1, 'chunked')).status, 507)
  })

  await t.test('replacing counts the difference', async (t) => {
    const [name] = (await readdir(files.mount)).filter((name) => name.startsWith('file-'))
    t.equal((await put(files, name!, size)).status, 201, 'as large')
    t.equal((await put(files, name!, size + 1)).status, 507, 'larger')
    t.equal((await put(files, name!, size - 10)).status, 201, 'smaller')
    t.equal((await put(files, name!, size, 'chunked')).status, 201, 'as large again, of unknown size')
    t.same(await files.usage(), { ...(await du(files.mount)), files: 11 })
    t.equal((await put(files, 'one-more', 1)).status, 507)
  })

  await t.test('what is deleted makes room', async (t) => {
    await files.post('delete', { paths: ['empty', (await readdir(files.mount))[1]!] })
    t.equal((await put(files, 'one-more', 1)).status, 201)
    t.same(await files.usage(), await du(files.mount))
  })
})

t.test('uploads of unknown size never go over', async (t) => {
  const files = await limited(server, { bytes: 10 * size })
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) => put(files, `file-${index}`, size, 'chunked')),
  )
  const usage = await du(files.mount)
  t.ok(usage.bytes <= 10 * size)
  t.same(await files.usage(), usage)
  t.equal(answers.filter(({ status }) => status === 201).length, usage.files)
  t.equal((await put(files, 'next', size, 'chunked')).status, usage.files < 10 ? 201 : 507, 'nothing is left reserved')
})

t.test('a limit of files', async (t) => {
  const files = await limited(server, { files: 3 })
  const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => put(files, `file-${index}`, 10)))
  t.equal(answers.filter(({ status }) => status === 201).length, 3)
  t.match(
    answers.find(({ status }) => status === 507),
    { code: 'quota_exceeded', unit: 'files', quota: 3 },
  )
  const [name] = await readdir(files.mount)
  t.equal((await put(files, name!, 20)).status, 201, 'a file that is there already is no further one')
  t.match(await files.post('copy', { from: name, to: 'copy' }), [507, { code: 'quota_exceeded' }])
  t.equal((await files.post('move', { from: name, to: 'moved' }))[0], 200)
  t.same(await files.usage(), await du(files.mount))
})

t.test('copies and moves count', async (t) => {
  const files = await limited(server, { bytes: 1000 })
  await files.upload({ 'dir/a': 'a'.repeat(400), 'dir/b': 'b'.repeat(100) })
  t.equal((await files.post('copy', { from: 'dir', to: 'second' }))[0], 201, 'exactly full')
  t.match(await files.post('copy', { from: 'dir/b', to: 'third' }), [507, { code: 'quota_exceeded' }])
  t.equal((await files.post('copy', { from: 'dir/a', to: 'second/a', overwrite: true }))[0], 201, 'the difference')
  t.match(await files.post('copy', { from: 'dir/a', to: 'dir/b', overwrite: true }), [507, { code: 'quota_exceeded' }])

  const other = await limited(server, { bytes: 450 })
  const toFolder = other.folder
  t.match(await files.post('move', { from: 'dir', to: 'dir', toFolder }), [507, { code: 'quota_exceeded' }])
  t.match(await files.post('move', { from: 'dir/a', to: 'a', toFolder }), [200, { path: 'a', size: 400 }])
  t.match(await files.post('copy', { from: 'dir/b', to: 'b', toFolder }), [507, { code: 'quota_exceeded' }])
  t.equal(
    (await files.post('move', { from: 'second/a', to: 'a', toFolder, overwrite: true }))[0],
    200,
    'the difference',
  )
  await server.ask('PATCH', `/folders/${toFolder}`, { quota: { bytes: null } })
  t.match(await files.post('move', { from: 'second/b', to: 'a', toFolder }), [409, { code: 'entry_exists' }])
  t.equal((await files.post('move', { from: 'second', to: 'moved/here', toFolder }))[0], 200)
  for (const vfolder of [files, other]) t.same(await vfolder.usage(), await du(vfolder.mount))
  t.same((await other.keys('recursive=true')).flat(), ['a', 'moved/', 'moved/here/', 'moved/here/b'])
})

t.test('what many do to one file at once is counted as it was', async (t) => {
  const files = await server.files()
  const overwriting = { from: 'from', to: 'file', overwrite: true }
  const deeds: Record<string, (index: number, round: number) => Promise<unknown>> = {
    'new, and new': (index, round) =>
      index % 2
        ? files.upload({ [`new-${round}`]: 'bytes' })
        : files.post('copy', { from: 'from', to: `new-${round}` }),
    replaced: (index) => files.upload({ file: 'x'.repeat(index) }),
    'replaced and deleted': (index) =>
      index % 2 ? files.upload({ file: 'bytes' }) : files.post('delete', { paths: ['file'] }),
    'moved to, and replaced': (index) => (index ? files.upload({ file: 'bytes' }) : files.post('move', overwriting)),
    'copied to, and moved to': (index) => files.post(index % 2 ? 'copy' : 'move', overwriting),
    'moved away, and replaced': (index) =>
      index ? files.upload({ file: 'bytes' }) : files.post('move', { from: 'file', to: 'moved', overwrite: true }),
  }
  for (const [what, deed] of Object.entries(deeds)) {
    for (let round = 0; round < 12; round++) {
      await files.upload({ file: new Uint8Array(1000), from: 'from' })
      await Promise.all(Array.from({ length: 8 }, (_, index) => deed(index, round)))
      const { entries } = await server.ask('GET', `/folders/${files.folder}/files?limit=1000`)
      const bytes = entries.reduce((sum: number, { size }: { size: number }) => sum + size, 0)
      t.same(await files.usage(), { files: entries.length, bytes }, what)
    }
  }
})

t.test('a limit that is set right behind small files keeps out what comes next, and nothing else', async (t) => {
  const files = await server.files()
  const put = async (name: string, bytes: number) => {
    const url = await server.sign(files.folder, name, { operation: 'upload' })
    return (await fetch(url, { method: 'PUT', body: new Uint8Array(bytes) })).status
  }
  const limit = (quota: object) => server.ask('PATCH', `/folders/${files.folder}`, { quota })
  for (const name of ['a', 'b', 'c']) t.equal(await put(name, 100), 201)
  await limit({ files: 3 })
  t.equal(await put('d', 100), 507)
  await limit({ files: 5, bytes: 200_300 })
  t.equal(await put('large', 200_000), 201, 'nothing is set aside for files that nobody has sent')
  t.equal(await put('d', 1), 507)
  await limit({ files: null, bytes: null })
  for (const name of ['d', 'e', 'f']) t.equal(await put(name, 100), 201)
  t.same(await files.usage(), await du(files.mount))
})

t.test('a quota scope', async (t) => {
  const scope = '/quota-scopes/user-1'
  t.match(await (await server.manager('GET', scope)).json(), { status: 404, code: 'quota_scope_not_found' })
  t.match(await (await server.manager('PUT', '/quota-scopes/a%20b', {})).json(), {
    status: 400,
    code: 'validation_failed',
  })
  const folders = await Promise.all(
    [1, 2].map(async () => {
      const id = await server.createFolder({ quotaScope: 'user-1', quota: { bytes: 5 * size } })
      return { server, folder: id, mount: await server.mountOf(id) }
    }),
  )
  t.same(await server.ask('PUT', scope, { bytes: 6 * size }), {
    scope: 'user-1',
    quota: { bytes: 6 * size, files: null },
    usage: { bytes: 0, files: 0 },
  })
  const uploads = folders.flatMap((files) =>
    Array.from({ length: 8 }, (_, index) => put(files as Files, `file-${index}`, size)),
  )
  const answers = await Promise.all(uploads)
  t.equal(answers.filter(({ status }) => status === 201).length, 6)
  t.ok(answers.some(({ limit }) => limit === 'quotaScope'))
  t.same((await server.ask('GET', scope)).usage, { bytes: 6 * size, files: 6 })
  for (const { mount } of folders) t.ok((await du(mount)).bytes <= 5 * size)

  const source = folders[0]!.folder
  const clone = await server.manager('POST', `/folders/${source}/clone`, {})
  t.match(
    await clone.json(),
    { status: 507, code: 'quota_exceeded', limit: 'quotaScope' },
    'a clone is of the same owner',
  )
  const { job, folder } = await server.ask('POST', `/folders/${source}/clone`, { quotaScope: null })
  t.match(await ended(server, job.id), { state: 'succeeded' })
  t.equal(folder.quotaScope, null)

  await server.ask('DELETE', `/folders/${folders[1]!.folder}`)
  t.same((await server.ask('GET', scope)).usage, await du(folders[0]!.mount), 'a deleted vfolder makes room')
  t.equal((await server.manager('DELETE', scope)).status, 204)
  t.equal((await server.manager('DELETE', scope)).status, 404)
})

t.test('a move inside of a quota scope changes nothing for it', async (t) => {
  await server.ask('PUT', '/quota-scopes/user-2', { bytes: 1000 })
  const [from, to] = await Promise.all([1, 2].map(() => server.createFolder({ quotaScope: 'user-2' })))
  await server.upload(from!, { a: 'a'.repeat(900) })
  await server.ask('POST', `/folders/${from}/files/move`, { from: 'a', to: 'a', toFolder: to })
  t.match(await server.ask('GET', '/quota-scopes/user-2'), { usage: { bytes: 900, files: 1 } })
})

t.test('a form sets no more aside than a limit or the volume allows', async (t) => {
  const files = await server.files()
  const sign = (path: string, more: object = {}) => server.sign(files.folder, path, { operation: 'upload', ...more })
  const { volumes } = await server.ask('GET', '/volumes')
  const { availableBytes } = volumes[0].capacity
  const manager = `${server.url}/folders/upload?folder=${files.folder}`
  const limited = await sign('in', { maxBytes: 1000 })
  const onlyFile = await sign('one', { maxBytes: 1000, onlyFile: true })
  const begin = (url: string, length: number) => {
    const headers = {
      authorization: `Bearer ${managerToken}`,
      'content-type': 'multipart/form-data; boundary=b',
      'content-length': length,
    }
    const form = request(url, { method: 'POST', headers })
    const answer = new Promise<Answer>((resolve) =>
      form.on('response', async (response) => resolve(JSON.parse(await text(response)))).on('error', resolve),
    )
    form.write('--b\r\nContent-Disposition: form-data; name="f"; filename="slow"\r\n\r\nabc')
    return { form, answer }
  }
  const reserved = async () =>
    (await readDatabase(server.dataDir, `SELECT reserved_bytes FROM vfolders WHERE id = '${files.folder}'`))[0]
      .reserved_bytes

  const most = Number.MAX_SAFE_INTEGER
  for (const [url, length, status, code] of [
    [limited, most, 413, 'body_too_large'],
    [onlyFile, most, 413, 'file_too_large'],
    [onlyFile, 200_000, 413, 'file_too_large'],
    [manager, most, 507, 'no_space'],
    [manager, availableBytes * 2, 507, 'no_space'],
    [await sign('any'), most, 507, 'no_space'],
  ] as const) {
    const { form, answer } = begin(url, length)
    t.match(await answer, { status, code }, `${length} bytes: ${code}`)
    form.destroy()
  }
  t.equal(Number(await reserved()), 0)

  const { form, answer } = begin(limited, 1_000_000_000)
  await eventually(async () => (await reserved()) > 0)
  t.equal(Number(await reserved()), 1000, 'the most that a file may have')
  form.destroy()
  await answer
  await eventually(async () => Number(await reserved()) === 0)
  t.same(await files.usage(), { bytes: 0, files: 0 })

  await t.test('the manager sees what is set aside, and can end it', async (t) => {
    const url = `/folders/${files.folder}/uploads`
    const put = request(await sign('put'), { method: 'PUT', headers: { 'content-length': 1_000_000 } })
    const answerOfPut = new Promise<Answer>((resolve) =>
      put.on('response', async (response) => resolve(JSON.parse(await text(response)))).on('error', resolve),
    )
    put.write('abc')
    const slow = begin(await sign('in', { maxBytes: 5000 }), 1_000_000_000)
    const listed = async () => (await server.ask('GET', url)).reservations
    await eventually(async () => (await listed()).length === 2)
    const found = (await listed()).toSorted((a: Answer, b: Answer) => a.reserved.bytes - b.reserved.bytes)
    t.match(found, [
      { kind: 'request', reserved: { bytes: 5000, files: 1 }, requestId: String, createdAt: String },
      { kind: 'request', reserved: { bytes: 1_000_000, files: 1 } },
    ])
    const page = await server.ask('GET', `${url}?limit=1`)
    const next = await server.ask('GET', `${url}?limit=1&cursor=${page.nextCursor}`)
    t.equal(new Set([...page.reservations, ...next.reservations].map(({ id }: Answer) => id)).size, 2)
    t.equal(next.nextCursor, null)
    const other = await server.createFolder()
    t.equal((await server.manager('DELETE', `/folders/${other}/uploads/${found[0].id}`)).status, 404)
    for (const [{ id }, { form, answer }] of [
      [found[0], slow],
      [found[1], { form: put, answer: answerOfPut }],
    ]) {
      t.equal((await server.manager('DELETE', `${url}/${id}`)).status, 204)
      t.match(await answer, { status: 409, code: 'work_ended' }, 'it waits for its client no longer')
      form.destroy()
      t.equal((await server.manager('DELETE', `${url}/${id}`)).status, 404, 'it is gone')
    }
    t.same(await listed(), [])
    t.equal(Number(await reserved()), 0)
    t.same(await files.usage(), { bytes: 0, files: 0 })
    await eventually(async () => (await server.staged()).length === 0)
  })
})

t.test('an upload whose room was given away while its process stood still', async (t) => {
  const server = await startServer(t)
  const files = await limited(server, { bytes: 1500 })
  const url = await server.sign(files.folder, 'slow', { operation: 'upload' })
  const upload = request(url, { method: 'PUT', headers: { 'content-length': '1000' } })
  const answered = new Promise<number | undefined>((resolve, reject) =>
    upload.on('response', ({ statusCode }) => resolve(statusCode)).on('error', reject),
  )
  upload.write('x'.repeat(500))
  await eventually(async () => (await readDatabase(server.dataDir, 'SELECT * FROM reservations')).length === 1)
  // The cleanup of another process does this once this one has not shown itself for too long.
  await changeDatabase(
    server.dataDir,
    'DELETE FROM reservations; UPDATE vfolders SET reserved_bytes = 0, reserved_files = 0',
  )
  t.equal((await put(files, 'quick', 1000)).status, 201)
  // For less than 0.1 s nobody is taken for dead.
  await sleep(200)
  upload.end('x'.repeat(500))
  t.equal(await answered, 507)
  t.same(await files.usage(), await du(files.mount))
  t.match(await files.keys('recursive=true'), [['quick']])
})

t.test('an upload that dies gives back what it had reserved', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1', IDLE_TIMEOUT_SECONDS: '1' }
  const first = await startServer(t, { dataDir, env })
  const files = await limited(first, { bytes: 1_000_000 })
  const headers = {
    authorization: `Bearer ${managerToken}`,
    'content-type': 'multipart/form-data; boundary=b',
    'content-length': '900000',
    [requestIdHeader]: 'the-dead-upload',
  }
  const upload = request(`${first.url}/folders/upload?folder=${files.folder}`, { method: 'POST', headers })
  upload.on('error', () => {})
  upload.write('--b\r\nContent-Disposition: form-data; name="file"; filename="dead.bin"\r\n\r\nfirst')
  await eventually(async () => (await first.staged()).length === 1)
  t.equal((await put(files, 'other', 200_000)).status, 507, 'reserved before it is there')
  await first.end('SIGKILL')

  const second = await startServer(t, { dataDir, env })
  const line = await second.logged(({ msg }) => msg === 'reservation of a dead process given back', 20_000)
  t.match(line, { upload_id: String, folder: files.folder, origin_request_id: 'the-dead-upload', request_id: String })
  t.not(line.request_id, 'the-dead-upload', 'the tick has an ID of its own')
  await eventually(async () => (await second.staged()).length === 0)
  t.equal((await put({ ...files, server: second } as Files, 'other', 1_000_000)).status, 201)
})

t.test('what is written past the service is found by the sync', async (t) => {
  const server = await startServer(t, { env: { QUOTA_SYNC_INTERVAL_SECONDS: '1' } })
  const files = await server.files()
  await files.upload({ 'a.txt': 'a' })
  await mkdir(join(files.mount, 'deep/er'), { recursive: true })
  await writeFile(join(files.mount, 'deep/er/b.txt'), 'x'.repeat(12_345))
  const line = await server.logged(({ msg }) => msg === 'usage had drifted')
  t.match(line, { folder: files.folder, drift_bytes: 12_345, drift_files: 1, usage_files: 2, exact: true })
  t.match(line.request_id, /^[0-9a-f-]{36}$/)
  t.match(await server.ask('GET', `/folders/${files.folder}`), { usage: { bytes: 12_346, files: 2, syncedAt: String } })
  const { jobs } = await server.ask('GET', '/jobs?kind=sync-quotas&limit=1000')
  const job = jobs.find(({ requestId }: Answer) => requestId === line.request_id)
  t.match(await ended(server, job.id), {
    folder: null,
    state: 'succeeded',
    result: { folders: 1, drifted: 1, driftBytes: 12_345 },
  })

  await t.test('also beside a vfolder that cannot be counted', async (t) => {
    const broken = await server.files()
    await rename(broken.mount, `${broken.mount}.away`)
    const line = await server.logged(({ msg }) => msg === 'a vfolder could not be counted')
    t.match(line, { folder: broken.folder, volume: 'default', err: { code: 'entry_not_found' } })
    await writeFile(join(files.mount, 'c.txt'), 'c')
    await eventually(async () => (await files.usage()).files === 3)
    await rename(`${broken.mount}.away`, broken.mount)
  })

  await t.test('on demand, beside uploads that go on', async (t) => {
    const uploads = Promise.all(Array.from({ length: 20 }, (_, index) => put(files, `file-${index}`, 1000)))
    for (let round = 0; round < 5; round++) {
      const { job } = await server.ask('POST', `/folders/${files.folder}/sync`)
      t.match(await ended(server, job.id), { state: 'succeeded' })
    }
    await uploads
    t.same(await files.usage(), await du(files.mount))
  })
})

t.test('a sync right after a crash finds what is not counted', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const upload = request(await server.sign(files.folder, 'a', { operation: 'upload' }), {
    method: 'PUT',
    headers: { 'content-length': 1_000_000 },
  })
  upload.on('error', () => {})
  upload.write('start')
  await eventually(async () => (await server.staged()).length > 0)
  await server.end('SIGKILL')
  await writeFile(join(files.mount, 'uncounted'), 'hello')

  const next = await startServer(t, { dataDir: server.dataDir, env: { LEASE_SECONDS: '3' } })
  const { job } = await next.ask('POST', `/folders/${files.folder}/sync`)
  t.match(await ended(next, job?.id), { state: 'succeeded' })
  // By this sync, or by the periodic one of the start.
  await next.logged(({ msg, folder }) => msg === 'usage had drifted' && folder === files.folder)
  t.match(await next.ask('GET', `/folders/${files.folder}`), { usage: { files: 1, bytes: 5 } })
})

t.test('what a sync finds to be dead is counted in all vfolders', async (t) => {
  // By the sync alone: the cleanup, which looks for the dead as well, runs at the start and then no more.
  const server = await startServer(t, { env: { UPLOAD_CLEANUP_INTERVAL_SECONDS: '3600' } })
  await server.firstCount()
  const [files, other] = [await server.files(), await server.files()]
  for (const { folder, mount } of [files, other]) {
    await writeFile(join(mount, 'by the dead'), 'hello')
    const values = `'${folder}', '${folder}', 'dead', 0, 0, 'dead', '2026-01-01T00:00:00.000Z'`
    const columns = 'id, vfolder, process, bytes, files, request_id, created_at'
    await changeDatabase(server.dataDir, `insert into reservations (${columns}) values (${values})`)
  }
  await server.ask('POST', `/folders/${files.folder}/sync`)
  await eventually(async () => (await other.usage()).files === 1)
})
