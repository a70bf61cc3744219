import { createHash, randomUUID } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type Answer, ended, eventually, Files, type Server, startServer, temporaryDirectory } from '../server.ts'

const day = { TRASH_RETENTION_SECONDS: '86400', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }

async function answerOf(server: Server, method: string, path: string, body?: object): Promise<[number, Answer]> {
  const response = await server.manager(method, path, body)
  return [response.status, await response.json()]
}

/** What is in a directory of this host, with what a user would compare: kind, time, mode, bytes or target. */
async function picture(root: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of (await readdir(root, { recursive: true })).sort()) {
    const path = join(root, name)
    const stats = await lstat(path)
    const content = stats.isFile()
      ? createHash('sha256')
          .update(await readFile(path))
          .digest('hex')
      : ''
    found[name] = `${stats.mode.toString(8)} ${stats.mtimeMs} ${content}`
  }
  return found
}

/** A tree with old times, an empty directory and a symlink. */
async function makeTree(mount: string): Promise<void> {
  await mkdir(join(mount, 'data/sub'), { recursive: true })
  await mkdir(join(mount, 'data/empty'))
  await writeFile(join(mount, 'data/a.bin'), Buffer.alloc(100_000, 'a'), { mode: 0o600 })
  await writeFile(join(mount, 'data/sub/b.txt'), 'of a user')
  await symlink('a.bin', join(mount, 'data/link'))
  const old = new Date('2021-03-04T05:06:07.890Z')
  for (const path of ['data/a.bin', 'data/sub/b.txt', 'data/sub', 'data/empty', 'data']) {
    await utimes(join(mount, path), old, old)
  }
}

async function trashOf({ server, folder }: Files): Promise<Answer[]> {
  return (await server.ask('GET', `/folders/${folder}/trash`)).entries
}

/** What the volume has below its two levels of directories. */
async function inTrash(server: Server): Promise<string[]> {
  const found = await readdir(join(server.dataDir, 'volumes/default/trash'), { recursive: true })
  return found.filter((path) => !/^[0-9a-f]{2}(\/[0-9a-f]{2})?$/.test(path)).map((path) => path.slice(6))
}

const restore = ({ server, folder }: Files, { id }: Answer, body: object = {}) =>
  answerOf(server, 'POST', `/folders/${folder}/trash/${id}/restore`, body)

t.test('with a retention', async (t) => {
  const server = await startServer(t, { env: day })

  await t.test('a deleted vfolder is refused until it is restored, as it was', async (t) => {
    const files = await server.files()
    const { folder } = files
    await makeTree(files.mount)
    await files.upload({ 'more.txt': 'more' })
    const before = await picture(files.mount)
    const url = await server.sign(folder, 'more.txt')
    const upload = await server.sign(folder, 'new.txt', { operation: 'upload' })

    const [status, trashed] = await answerOf(server, 'DELETE', `/folders/${folder}`)
    t.equal(status, 200)
    t.match(trashed, { id: folder, state: 'trashed', trashedAt: /^20/ })
    t.same(await answerOf(server, 'DELETE', `/folders/${folder}`), [200, trashed], 'the same call again')
    t.same(await answerOf(server, 'GET', `/folders/${folder}`), [200, trashed])
    const listed = async (query: string) => {
      const { folders } = await server.ask('GET', `/folders?limit=1000${query}`)
      return folders.map(({ id }: Answer) => id)
    }
    t.notOk((await listed('')).includes(folder))
    t.notOk((await listed('&state=ready')).includes(folder))
    t.ok((await listed('&state=trashed')).includes(folder))

    const isTrashed = [404, { code: 'vfolder_trashed' }]
    const calls: [string, string, object?][] = [
      ['GET', '/files'],
      ['GET', '/trash'],
      ['GET', '/mount'],
      ['GET', '/uploads'],
      ['PATCH', '', { metadata: {} }],
      ['POST', '/files/delete', { paths: ['more.txt'] }],
      ['POST', '/signed-urls', { operation: 'download', paths: ['more.txt'] }],
      ['POST', '/clone', {}],
      ['POST', '/sync'],
    ]
    for (const [method, path, body] of calls) {
      t.match(await answerOf(server, method, `/folders/${folder}${path}`, body), isTrashed, `${method} ${path}`)
    }
    t.match(await answerOf(server, 'POST', '/folders', { id: folder }), [
      409,
      { code: 'vfolder_exists', detail: /in the trash/ },
    ])
    for (const [signed, options] of [
      [url, {}],
      [upload, { method: 'PUT', body: 'new' }],
    ] as const) {
      const response = await fetch(signed, options)
      t.match([response.status, await response.json()], isTrashed)
    }

    const [restored, ready] = await answerOf(server, 'POST', `/folders/${folder}/restore`)
    t.equal(restored, 200)
    t.match(ready, { id: folder, state: 'ready' })
    t.notHas(ready, 'trashedAt')
    t.match(await answerOf(server, 'POST', `/folders/${folder}/restore`), [200, ready], 'the same call again')
    t.same(await picture(files.mount), before)
    t.equal(await (await fetch(url)).text(), 'more')
    t.equal((await fetch(upload, { method: 'PUT', body: 'new' })).status, 201)
  })

  await t.test('a resumable upload goes on after its vfolder is restored', async (t) => {
    const folder = await server.createFolder()
    const url = await server.sign(folder, 'tus.txt', { operation: 'upload' })
    const { signedUrls } = await server.ask('POST', `/folders/${folder}/signed-urls`, {
      operation: 'upload',
      paths: ['tus.txt'],
    })
    const tus = { 'tus-resumable': '1.0.0' }
    const created = await fetch(`${server.url}/upload/tus${new URL(signedUrls[0]?.url ?? url).search}`, {
      method: 'POST',
      headers: { ...tus, 'upload-length': '6' },
    })
    t.equal(created.status, 201)
    const at = new URL(created.headers.get('location')!, server.url).href
    const patch = (offset: number, body: string) =>
      fetch(at, {
        method: 'PATCH',
        headers: { ...tus, 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' },
        body,
      })
    t.equal((await patch(0, 'abc')).status, 204)
    await server.ask('DELETE', `/folders/${folder}`)
    t.equal((await patch(3, 'def')).status, 404)
    await server.ask('POST', `/folders/${folder}/restore`)
    t.equal((await patch(3, 'def')).status, 204)
    t.match(await server.ask('GET', `/folders/${folder}/files/stat?path=tus.txt`), { size: 6 })
  })

  await t.test('a vfolder is removed for good when that is asked for', async (t) => {
    const files = await server.files()
    await files.upload({ a: 'a' })
    await files.post('delete', { paths: ['a'] })
    await server.ask('DELETE', `/folders/${files.folder}`)
    const { job } = await server.ask('DELETE', `/folders/${files.folder}?permanent=true`)
    t.match(await ended(server, job.id), { kind: 'delete-vfolder', state: 'succeeded' })
    t.match(await answerOf(server, 'POST', `/folders/${files.folder}/restore`), [404, { code: 'vfolder_not_found' }])
    t.equal(await server.createFolder({ id: files.folder }), files.folder)
    t.same(await trashOf(files), [])
    t.same(await inTrash(server), [])
  })

  await t.test('a deleted directory comes back as it was', async (t) => {
    const files = await server.files()
    await makeTree(files.mount)
    const before = await picture(files.mount)
    await files.upload({ 'stays.txt': 'stays' })
    t.match(await files.post('delete', { paths: ['data'] }), [409, { code: 'directory_not_empty', deleted: [] }])
    t.same(await files.post('delete', { paths: ['data', 'missing', 'stays.txt/below'], recursive: true }), [
      200,
      { deleted: ['data'], missing: ['missing', 'stays.txt/below'] },
    ])
    t.same(await files.keys('recursive=true'), [['stays.txt']])
    t.same(await readdir(files.mount), ['stays.txt'], 'users of the mount do not see the trash')
    const [entry, ...others] = await trashOf(files)
    t.same(others, [])
    t.match(entry, { path: 'data', type: 'directory', files: 3, bytes: 100_009, countsTowardsQuota: true })
    const { orphans } = await server.ask('GET', '/volumes/default/orphans')
    t.same(orphans, [])

    const { job } = await server.ask('POST', `/folders/${files.folder}/clone`, {})
    const { folder: clone } = await ended(server, job.id)
    t.same(await new Files(server, clone, '').keys('recursive=true'), [['stays.txt']], 'a clone has no trash')

    t.match(await restore(files, entry), [200, { path: 'data', type: 'directory' }])
    t.same(await trashOf(files), [])
    const { 'stays.txt': _, ...after } = await picture(files.mount)
    t.same(after, before)
    t.match(await restore(files, entry), [404, { code: 'trashed_entry_not_found' }])
  })

  await t.test('a name that was taken meanwhile', async (t) => {
    const files = await server.files()
    for (const content of ['first', 'second']) {
      await files.upload({ 'a/file.txt': content })
      await files.post('delete', { paths: ['a/file.txt'] })
    }
    await files.upload({ 'a/file.txt': 'third' })
    const [second, first] = await trashOf(files)
    const text = async (path: string) => (await fetch(await server.sign(files.folder, path))).text()
    t.match(await restore(files, first), [409, { code: 'entry_exists' }])
    t.match(await restore(files, first, { onConflict: 'rename' }), [200, { path: 'a/file (restored).txt' }])
    t.equal(await text('a/file (restored).txt'), 'first')
    t.equal(await text('a/file.txt'), 'third')
    t.match(await restore(files, second, { onConflict: 'replace' }), [200, { path: 'a/file.txt' }])
    t.equal(await text('a/file.txt'), 'second')
    const [third] = await trashOf(files)
    t.match(await restore(files, third, { to: 'b/elsewhere.txt' }), [200, { path: 'b/elsewhere.txt' }])
    t.equal(await text('b/elsewhere.txt'), 'third')
    t.match(await restore(files, third, { onConflict: 'guess' }), [400, { code: 'validation_failed' }])
    t.match(await restore(files, third, { to: '../out' }), [400, { code: 'invalid_path' }])
  })

  await t.test('of many restorations of one entry at once, one has it', async (t) => {
    const files = await server.files()
    await files.upload({ file: 'content' })
    await files.post('delete', { paths: ['file'] })
    const [entry] = await trashOf(files)
    const answers = await Promise.all(Array.from({ length: 8 }, (_, n) => restore(files, entry, { to: `to-${n}` })))
    t.equal(answers.filter(([status]) => status === 200).length, 1)
    for (const [status, { code }] of answers.filter(([status]) => status !== 200)) {
      t.ok(['trashed_entry_busy', 'trashed_entry_not_found'].includes(code), `${status} ${code}`)
    }
    t.equal((await files.keys('')).flat().length, 1)
  })

  await t.test('what is in the trash counts, until it is removed for good', async (t) => {
    const folder = await server.createFolder({ quota: { bytes: 10 } })
    const files = new Files(server, folder, '')
    await files.upload({ a: '12345678', b: '1' })
    await files.post('delete', { paths: ['a', 'b'] })
    t.same(await files.usage(), { files: 2, bytes: 9 })
    const refused = await fetch(await server.sign(folder, 'c', { operation: 'upload' }), { method: 'PUT', body: '12' })
    t.equal(refused.status, 507)
    const { job: sync } = await server.ask('POST', `/folders/${folder}/sync`)
    t.match(await ended(server, sync.id), { state: 'succeeded', result: { drifted: 0 } })
    t.same(await files.usage(), { files: 2, bytes: 9 })

    const a = (await trashOf(files)).find(({ path }) => path === 'a')
    const other = await server.createFolder()
    t.match(await answerOf(server, 'DELETE', `/folders/${other}/trash/${a.id}`), [
      404,
      { code: 'trashed_entry_not_found' },
    ])
    t.match(await answerOf(server, 'DELETE', `/folders/${folder}/trash/${randomUUID()}`), [404, {}])
    const { job } = await server.ask('DELETE', `/folders/${folder}/trash/${a.id}`)
    t.match(await ended(server, job.id), {
      kind: 'empty-trash',
      state: 'succeeded',
      result: { entries: 1, files: 1, bytes: 8 },
    })
    t.same(await files.usage(), { files: 1, bytes: 1 })
    t.match(await restore(files, a), [404, { code: 'trashed_entry_not_found' }])
    const all = await server.ask('DELETE', `/folders/${folder}/trash`)
    t.match(await ended(server, all.job.id), { state: 'succeeded', result: { entries: 1 } })
    t.same([await trashOf(files), await files.usage()], [[], { files: 0, bytes: 0 }])
  })

  await t.test('it is listed by page, the latest first, and can be passed by', async (t) => {
    const files = await server.files()
    const names = Array.from({ length: 7 }, (_, n) => `file-${n}`)
    await files.upload(Object.fromEntries(names.map((name) => [name, name])))
    t.match(await files.post('delete', { paths: ['file-0'], permanent: true }), [200, { deleted: ['file-0'] }])
    for (const path of names.slice(1)) await files.post('delete', { paths: [path] })
    const found: string[] = []
    let cursor = ''
    do {
      const page = await server.ask('GET', `/folders/${files.folder}/trash?limit=2${cursor}`)
      found.push(...page.entries.map(({ path }: Answer) => path))
      cursor = page.nextCursor === null ? '' : `&cursor=${page.nextCursor}`
    } while (cursor !== '')
    t.same(found.toSorted(), names.slice(1))
    t.match(await answerOf(server, 'GET', `/folders/${files.folder}/trash?cursor=eA`), [
      400,
      { code: 'invalid_cursor' },
    ])
  })
})

t.test('the retention ends', async (t) => {
  const server = await startServer(t, {
    env: {
      TRASH_RETENTION_SECONDS: '1',
      UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
      TRASH_COUNTS_TOWARDS_QUOTA: 'false',
      EVENTS: 'on',
    },
  })
  await server.ask('PUT', '/quota-scopes/owner', { bytes: 10 })
  const inScope = async () => (await server.ask('GET', '/quota-scopes/owner')).usage.bytes

  await t.test('an entry that does not count is emptied by a job', async (t) => {
    const folder = await server.createFolder({ quotaScope: 'owner' })
    const files = new Files(server, folder, await server.mountOf(folder))
    await files.upload({ 'dir/file': '12345678' })
    await files.post('delete', { paths: ['dir'], recursive: true })
    t.same([await files.usage(), await inScope()], [{ files: 0, bytes: 0 }, 0])
    const jobs = () => server.ask('GET', `/jobs?kind=empty-trash&folder=${folder}`)
    await eventually(async () => (await jobs()).jobs.some(({ state }: Answer) => state === 'succeeded'))
    t.same(await trashOf(files), [])
    const line = await server.logged(({ msg }) => msg === 'entry removed from the trash')
    t.match(line, { folder, path: 'dir', origin_request_id: String, job_id: String })
    t.same(await inTrash(server), [folder], 'an empty place of the trash')
    t.same(await files.usage(), { files: 0, bytes: 0 })
  })

  await t.test('a vfolder is removed under the request that deleted it, and that is told', async (t) => {
    const folder = await server.createFolder({ quotaScope: 'owner' })
    const response = await server.manager('DELETE', `/folders/${folder}`, undefined, {
      'x-backend-request-id': 'deletes-it',
    })
    t.equal(response.status, 200)
    await eventually(async () => (await server.manager('GET', `/folders/${folder}`)).status === 404)
    const { jobs } = await server.ask('GET', `/jobs?folder=${folder}&kind=delete-vfolder`)
    t.match(jobs, [{ requestId: 'deletes-it' }])
    await ended(server, jobs[0].id)
    const told = await eventually(async () => {
      const { events }: Answer = await server.ask('GET', '/events?limit=1000')
      const ofFolder = events.filter((event: Answer) => event.folder === folder)
      return ofFolder.some(({ type }: Answer) => type === 'job.ended') && ofFolder
    })
    t.match(told.slice(1), [
      { type: 'vfolder.deleted', data: { restorable: true } },
      { type: 'vfolder.deleted', requestId: 'deletes-it', data: { restorable: false } },
      { type: 'job.ended', data: { quotaScope: 'owner' } },
    ])
    const { chapters } = await server.ask('GET', '/requests/deletes-it')
    const rows = chapters.flatMap(({ events }: Answer) => events)
    t.match(
      rows.filter(({ action }: Answer) => action === 'folder.delete'),
      [{ actor: /^manager:/ }, { actor: 'service', volume: 'default', subject: jobs[0].id, outcome: 'succeeded' }],
    )
  })
})

t.test('what does not count needs room to come back', async (t) => {
  const server = await startServer(t, { env: { ...day, TRASH_COUNTS_TOWARDS_QUOTA: 'false' } })
  await server.ask('PUT', '/quota-scopes/owner', { bytes: 10 })
  const inScope = async () => (await server.ask('GET', '/quota-scopes/owner')).usage.bytes
  const [one, two] = [
    await server.createFolder({ quotaScope: 'owner' }),
    await server.createFolder({ quotaScope: 'owner' }),
  ]
  const [first, second] = [new Files(server, one, ''), new Files(server, two, '')]
  await first.upload({ file: '12345678' })
  await server.ask('DELETE', `/folders/${one}`)
  t.equal(await inScope(), 0)
  await second.upload({ file: '123456', other: '12' })
  t.match(await answerOf(server, 'POST', `/folders/${one}/restore`), [
    507,
    { code: 'quota_exceeded', limit: 'quotaScope' },
  ])
  t.match(await answerOf(server, 'GET', `/folders/${one}`), [200, { state: 'trashed' }])
  await second.post('delete', { paths: ['file'] })
  t.equal(await inScope(), 2)
  t.match(await answerOf(server, 'POST', `/folders/${one}/restore`), [200, { state: 'ready' }])
  t.equal(await inScope(), 10)
  const [entry] = await trashOf(second)
  t.match(await restore(second, entry), [507, { code: 'quota_exceeded' }])
  await first.post('delete', { paths: ['file'], permanent: true })
  t.match(await restore(second, entry), [200, { path: 'file' }])
  t.equal(await inScope(), 8)
})

t.test('a volume that cannot keep entries says so, and deletes nothing', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const VOLUMES = JSON.stringify({ default: { backend: 'forgetful', root: join(dataDir, 'root') } })
  const BACKEND_PLUGINS = fileURLToPath(new URL('../forgetful-backend.ts', import.meta.url))
  const server = await startServer(t, { dataDir, env: { ...day, VOLUMES, BACKEND_PLUGINS } })
  const files = await server.files()
  await files.upload({ file: 'content' })
  const refused = [501, { code: 'capability_missing', detail: /"permanent": true/ }]
  t.match(await files.post('delete', { paths: ['file'] }), refused)
  t.match(await answerOf(server, 'GET', `/folders/${files.folder}/trash`), [501, { code: 'capability_missing' }])
  t.same(await files.keys(''), [['file']])
  t.match(await files.post('delete', { paths: ['file'], permanent: true }), [200, { deleted: ['file'] }])
  await files.upload({ file: 'content' })
  t.match(await server.ask('DELETE', `/folders/${files.folder}`), { state: 'trashed' }, 'a vfolder is kept everywhere')
  await server.ask('POST', `/folders/${files.folder}/restore`)
  t.same(await files.keys(''), [['file']])
})

t.test('without a retention all is as ever', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  await files.upload({ file: 'content' })
  t.same(await files.post('delete', { paths: ['file'] }), [200, { deleted: ['file'], missing: [] }])
  t.same(await trashOf(files), [])
  t.same(await files.usage(), { files: 0, bytes: 0 })
  t.match(await answerOf(server, 'DELETE', `/folders/${files.folder}`), [202, { job: { kind: 'delete-vfolder' } }])
  t.match(await answerOf(server, 'GET', `/folders/${files.folder}`), [404, { code: 'vfolder_not_found' }])
})
