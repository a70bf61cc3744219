import { randomUUID } from 'node:crypto'
import { access, mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type Answer, ended, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

async function answerOf(server: Server, method: string, path: string, body?: object): Promise<[number, Answer]> {
  const response = await server.manager(method, path, body)
  const text = await response.text()
  return [response.status, text === '' ? undefined : JSON.parse(text)]
}

const server = await startServer(t)

t.test('create', async (t) => {
  await t.test('without an ID', async (t) => {
    const response = await server.manager('POST', '/folders', {})
    const folder: Answer = await response.json()
    t.equal(response.status, 201)
    t.equal(response.headers.get('location'), `/folders/${folder.id}`)
    t.match(folder.id, uuid)
    t.ok(Math.abs(Date.parse(folder.createdAt) - Date.now()) < 60_000)
    t.same(folder, {
      id: folder.id,
      volume: 'default',
      state: 'ready',
      quota: { bytes: null, files: null },
      quotaScope: null,
      usage: { bytes: 0, files: 0, syncedAt: null },
      metadata: {},
      createdAt: folder.createdAt,
    })
    t.same(await server.ask('GET', `/folders/${folder.id}`), folder)
  })

  await t.test('the same call twice is one vfolder', async (t) => {
    const body = {
      id: randomUUID(),
      quota: { bytes: 10, files: 2 },
      metadata: { owner: 'someone', nested: { a: [1] } },
    }
    const [created, folder] = await answerOf(server, 'POST', '/folders', body)
    t.equal(created, 201)
    t.match(folder, body)
    await server.upload(body.id, { 'kept.txt': 'kept' })
    const [again, found] = await answerOf(server, 'POST', '/folders', body)
    t.equal(again, 200)
    t.match(found, { ...folder, usage: { bytes: 4, files: 1 } })
    t.same(await readdir(await server.mountOf(body.id)), ['kept.txt'])
  })

  await t.test('the same call many times at once is one vfolder', async (t) => {
    const id = randomUUID()
    const answers = await Promise.all(Array.from({ length: 20 }, () => answerOf(server, 'POST', '/folders', { id })))
    const statuses = answers.map(([status]) => status)
    t.same(statuses.toSorted(), [...Array(19).fill(200), 201])
    t.ok(answers.every(([, folder]) => folder.id === id && folder.state === 'ready'))
  })
})

t.test('list by page, change and delete', async (t) => {
  const server = await startServer(t)
  const ids: string[] = []
  for (let count = 0; count < 7; count++) ids.push(await server.createFolder())
  ids.sort()

  await t.test('pages', async (t) => {
    const pages: string[][] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const query = cursor === '' ? '' : `&cursor=${cursor}`
      const { folders, nextCursor }: Answer = await server.ask('GET', `/folders?limit=3${query}`)
      pages.push(folders.map(({ id }: Answer) => id))
      cursor = nextCursor
    }
    t.same(pages, [ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)])
    t.equal((await server.ask('GET', '/folders?limit=7')).nextCursor, null, 'no page follows a full last one')
  })

  await t.test('patch changes what it names', async (t) => {
    const url = `/folders/${ids[0]}`
    await server.ask('PATCH', url, { quota: { bytes: 1000, files: 5 }, metadata: { a: 1, b: 2 } })
    const changed = await server.ask('PATCH', url, { quota: { files: null } })
    t.match(changed, { quota: { bytes: 1000, files: null }, metadata: { a: 1, b: 2 } })
    const replaced = await server.ask('PATCH', url, { metadata: { c: 3 } })
    t.same([replaced.quota, replaced.metadata], [{ bytes: 1000, files: null }, { c: 3 }])
    t.same(await server.ask('GET', url), replaced)
    t.match(await answerOf(server, 'PATCH', url, {}), [400, { code: 'validation_failed' }])
    t.match(await answerOf(server, 'PATCH', url, { volume: 'other' }), [400, { code: 'validation_failed' }])
    t.match(await answerOf(server, 'PATCH', `/folders/${randomUUID()}`, { metadata: {} }), [
      404,
      { code: 'vfolder_not_found' },
    ])
  })

  await t.test('delete makes it vanish at once and frees it', async (t) => {
    const id = ids[0]!
    await server.upload(id, { 'a.txt': 'a', 'dir/b.txt': 'b' })
    const mount = await server.mountOf(id)
    const signed = await server.sign(id, 'a.txt')
    const [status, body] = await answerOf(server, 'DELETE', `/folders/${id}`)
    t.match([status, body], [202, { job: { kind: 'delete-vfolder', folder: id, requestId: String } }])
    for (const [method, path] of [
      ['GET', `/folders/${id}`],
      ['GET', `/folders/${id}/files`],
      ['GET', `/folders/${id}/content/a.txt`],
    ] as const) {
      t.match(await answerOf(server, method, path), [404, { code: 'vfolder_not_found' }], `${method} ${path}`)
    }
    t.match(await (await fetch(signed)).json(), { code: 'vfolder_not_found' })
    t.equal((await server.ask('GET', '/folders')).folders.length, 6)

    t.match(await ended(server, body.job.id), { state: 'succeeded' })
    await t.rejects(access(mount), { code: 'ENOENT' })
    t.match(await answerOf(server, 'DELETE', `/folders/${id}`), [404, { code: 'vfolder_not_found' }])
    t.equal((await answerOf(server, 'POST', '/folders', { id }))[0], 201, 'the ID is free again')
    t.same((await server.ask('GET', `/folders/${id}/files`)).entries, [])
  })
})

t.test('the bytes of a deleted vfolder are freed in the background', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' } })
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'a', 'dir/b.txt': 'b' })
  const { job } = await server.ask('DELETE', `/folders/${folder}`)
  t.match(await ended(server, job.id), { state: 'succeeded', error: undefined })
  await eventually(async () => (await readdir(join(server.dataDir, 'volumes/default/trash'))).length === 0)
})

t.test('two volumes', async (t) => {
  const root = await temporaryDirectory(t)
  const volumes = {
    plain: { backend: 'posix', root: join(root, 'plain') },
    shared: {
      backend: 'posix',
      root: join(root, 'shared'),
      fileMode: '0660',
      directoryMode: '2770',
      ...(process.getuid?.() === 0 && { uid: 1234, gid: 5678 }),
    },
  }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })

  await t.test('both are described', async (t) => {
    const { volumes } = await server.ask('GET', '/volumes')
    for (const [index, name] of ['plain', 'shared'].entries()) {
      t.match(volumes[index], { name, backend: 'posix', health: { healthy: true }, capacity: { totalBytes: Number } })
      t.same(volumes[index].capabilities, [
        'listMany',
        'readMany',
        'copy',
        'copyTree',
        'clone',
        'count',
        'symlink',
        'capacity',
        'mount',
        'trash',
      ])
    }
    t.match(await server.ask('GET', '/volumes/shared'), { name: 'shared' })
  })

  await t.test('a vfolder is on one of them', async (t) => {
    const id = randomUUID()
    await server.createFolder({ id, volume: 'shared' })
    t.match(await answerOf(server, 'POST', '/folders', { id, volume: 'shared' }), [200, { volume: 'shared' }])
    t.match(await answerOf(server, 'POST', '/folders', { id }), [
      409,
      { code: 'vfolder_exists', detail: /on volume shared/ },
    ])
    const other = await server.createFolder()
    t.same(
      (await server.ask('GET', '/folders?volume=plain')).folders.map(({ id }: Answer) => id),
      [other],
    )
    t.ok((await server.mountOf(id)).startsWith(volumes.shared.root))
    t.ok((await server.mountOf(other)).startsWith(volumes.plain.root))
  })

  await t.test('owner and modes are those of the volume, whatever the umask and the way of making', async (t) => {
    const folder = await server.createFolder({ volume: 'shared' })
    await server.upload(folder, { 'dir/sub/file.bin': 'content' })
    const files = `/folders/${folder}/files`
    await server.ask('POST', `${files}/mkdir`, { path: 'made/deep' })
    await server.ask('POST', `${files}/copy`, { from: 'dir', to: 'copied' })
    await server.ask('POST', `${files}/move`, { from: 'dir/sub/file.bin', to: 'moved/to/file.bin' })
    const mount = await server.mountOf(folder)
    for (const entry of [mount, ...(await readdir(mount, { recursive: true })).map((path) => join(mount, path))]) {
      const { mode, uid, gid } = await stat(entry)
      t.equal((mode & 0o7777).toString(8), entry.endsWith('.bin') ? '660' : '2770', entry)
      t.match({ uid, gid }, 'uid' in volumes.shared ? { uid: 1234, gid: 5678 } : { uid: process.getuid?.() }, entry)
    }
  })

  await t.test('and so of a vfolder that a crash left without them', async (t) => {
    const id = await server.createFolder({ volume: 'shared' })
    const mount = await server.mountOf(id)
    const { job } = await server.ask('DELETE', `/folders/${id}`)
    await ended(server, job.id)
    await mkdir(mount, { mode: 0o700 })
    t.equal(await server.createFolder({ id, volume: 'shared' }), id)
    const { mode, uid, gid } = await stat(mount)
    t.equal((mode & 0o7777).toString(8), '2770')
    t.match({ uid, gid }, 'uid' in volumes.shared ? { uid: 1234, gid: 5678 } : { uid: process.getuid?.() })
  })
})

t.test('mount', async (t) => {
  const folder = await server.createFolder()
  await server.upload(folder, { 'dir/a.txt': 'a' })
  const root = await server.ask('GET', `/folders/${folder}/mount`)
  t.equal(root.type, 'path')
  t.same(await readdir(root.path), ['dir'])
  t.same(await server.ask('GET', `/folders/${folder}/mount?path=dir/a.txt`), {
    type: 'path',
    path: join(root.path, 'dir/a.txt'),
  })
})
