import { randomUUID } from 'node:crypto'
import { cp, mkdir, readdir, readFile, rename, rm, rmdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { changeDatabase, copyDatabase, loseDatabase, onlySqlite, onPostgres, restoreDatabase } from '../database.ts'
import { type Answer, ended, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'

async function readiness(server: Server): Promise<Answer> {
  const response = await fetch(`${server.managerUrl}/readyz`)
  return { ...((await response.json()) as object), status: response.status }
}

/** All that a volume is asked for is refused, `/readyz` says why, and nothing gets into the place. */
async function assertRefused(t: Test, server: Server, folder: string, root: string, reason: RegExp): Promise<void> {
  const before = await readdir(root)
  const refused = { status: 503, code: 'volume_unavailable', detail: reason }
  const answer = async (method: string, path: string, body?: object) =>
    (await (await server.manager(method, path, body)).json()) as Answer
  t.match(await answer('GET', `/folders/${folder}/files`), refused, 'list')
  t.match(await answer('GET', `/folders/${folder}/content/a.txt`), refused, 'read')
  t.match(await answer('POST', '/folders', { id: randomUUID() }), refused, 'create')
  t.match(await answer('GET', '/volumes/default/orphans'), refused, 'orphans')
  const upload = await fetch(await server.sign(folder, 'new.txt', { operation: 'upload' }), {
    method: 'PUT',
    body: 'x',
  })
  t.match(await upload.json(), refused, 'upload')
  const download = await fetch(await server.sign(folder, 'a.txt'))
  t.match(await download.json(), refused, 'download')
  const ready = await readiness(server)
  t.equal(ready.status, 503)
  t.match(
    ready.checks.find(({ name }: Answer) => name === 'volume:default'),
    { healthy: false, reason },
  )
  t.match(reason.exec(ready.checks[1].reason) && ready.checks[1].reason, /POST \/volumes\/default\/accept/)
  t.equal((await fetch(`${server.managerUrl}/livez`)).status, 200)
  t.same(await readdir(root), before, 'nothing was made there')
}

/** A service that was used, and has ended: its data, its volume, and a vfolder with a file. */
async function used(t: Test) {
  const dataDir = await temporaryDirectory(t)
  const root = join(await temporaryDirectory(t), 'root')
  const env = { VOLUMES: JSON.stringify({ default: { backend: 'posix', root } }) }
  const start = () => startServer(t, { dataDir, env })
  const folder = onPostgres ? await use(await start()) : await copyUsed(dataDir, root)
  const read = async (server: Server) => (await server.manager('GET', `/folders/${folder}/content/a.txt`)).text()
  return { dataDir, root, start, folder, read }
}

async function use(server: Server): Promise<string> {
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'as it was' })
  await server.end()
  return folder
}

/** The root of a volume that another service has used. */
async function otherVolume(t: Test): Promise<string> {
  const server = await startServer(t)
  await use(server)
  return join(server.dataDir, 'volumes/default')
}

let first: Promise<{ dataDir: string; folder: string }> | undefined

/** Most tests begin with the same: it is made once. */
async function copyUsed(dataDir: string, root: string): Promise<string> {
  first ??= (async () => {
    const server = await startServer(t)
    return { dataDir: server.dataDir, folder: await use(server) }
  })()
  const made = await first
  await cp(made.dataDir, dataDir, { recursive: true })
  await rename(join(dataDir, 'volumes/default'), root)
  return made.folder
}

t.test('a volume that is not mounted when the service starts', async (t) => {
  const { root, start, folder, read } = await used(t)
  await rename(root, `${root}.away`)
  await mkdir(root)
  const second = await start()
  await assertRefused(t, second, folder, root, /no identity where this database knows one; it may not be mounted/)

  await t.test('a deletion waits for it', async (t) => {
    const { job } = await second.ask('DELETE', `/folders/${folder}`)
    await eventually(async () => (await second.ask('GET', `/jobs/${job.id}`)).error?.code === 'volume_unavailable')
    await rm(root, { recursive: true })
    await rename(`${root}.away`, root)
    t.match(await ended(second, job.id), { state: 'succeeded' })
    t.equal((await readiness(second)).status, 200, 'it recovers by itself')
    t.match(JSON.parse(await read(second)), { code: 'vfolder_not_found' })
  })
})

t.test('a volume whose root is missing when the service starts is not made anew', async (t) => {
  const { root, start, folder, read } = await used(t)
  await rename(root, `${root}.away`)
  const second = await start()
  t.match(await (await second.manager('GET', `/folders/${folder}/files`)).json(), { code: 'volume_unavailable' })
  await t.rejects(readdir(root), { code: 'ENOENT' })
  await rename(`${root}.away`, root)
  t.equal((await readiness(second)).status, 200)
  t.equal(await read(second), 'as it was')
})

t.test('a volume that another one takes the place of while the service runs', async (t) => {
  const { root, start, folder, read } = await used(t)
  const server = await start()
  const other = await otherVolume(t)
  await rename(root, `${root}.away`)
  await mkdir(root)
  const listed = await server.manager('GET', `/folders/${folder}/files`)
  t.match(await listed.json(), { code: 'volume_unavailable', detail: /may not be mounted/ }, 'before anybody looks')
  await t.test('nothing', (t) => assertRefused(t, server, folder, root, /may not be mounted/))
  await cp(other, root, { recursive: true })
  await eventually(async () => (await readiness(server)).status === 503)
  await assertRefused(t, server, folder, root, /it is [0-9a-f-]{36}, and this database knows [0-9a-f-]{36}/)
  await rm(root, { recursive: true })
  await rename(`${root}.away`, root)
  t.equal((await readiness(server)).status, 200)
  t.equal(await read(server), 'as it was')
})

t.test('another volume in its place is found out though nobody asks for the health', async (t) => {
  const { dataDir, root, folder } = await used(t)
  const other = await otherVolume(t)
  const env = {
    VOLUMES: JSON.stringify({ default: { backend: 'posix', root } }),
    UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
  }
  const second = await startServer(t, { dataDir, env })
  await rename(root, `${root}.real`)
  await cp(other, root, { recursive: true })
  // It lacks what the service would need, too, which must not be all that is said.
  await rm(join(root, 'uploads'), { recursive: true })
  // By a renewal of the mark, or by a look in between.
  const found = /was not renewed|cannot be used/
  await second.logged(({ msg, err }) => found.test(msg) && /and this database knows/.test(JSON.stringify(err)))
  await assertRefused(t, second, folder, root, /and this database knows/)
  const { job } = await second.ask('DELETE', `/folders/${folder}`)
  await rm(root, { recursive: true })
  await rename(`${root}.real`, root)
  t.match(await ended(second, job.id), { state: 'succeeded' })
  t.same(await readdir(join(root, 'trash')), [])
  await eventually(async () => (await foldersIn(root)).length === 0)
})

async function foldersIn(root: string): Promise<string[]> {
  return (await readdir(join(root, 'folders'), { recursive: true })).filter((path) => path.split('/').length === 3)
}

t.test('a root that is a symlink to another directory by now', async (t) => {
  const { root, start, folder } = await used(t)
  await rename(root, `${root}.first`)
  await mkdir(`${root}.second`)
  await symlink(`${root}.second`, root)
  const second = await start()
  await assertRefused(t, second, folder, root, /may not be mounted/)
  await rm(root)
  await symlink(`${root}.first`, root)
  await second.end()
  t.equal((await readiness(await start())).status, 200)
})

t.test('a new database beside a full volume', async (t) => {
  const { dataDir, root, start, folder } = await used(t)
  await loseDatabase(dataDir)
  const second = await start()
  const ready = await readiness(second)
  t.match(ready, { status: 503 })
  t.match(ready.checks[1], {
    healthy: false,
    reason: /it belongs to another database, or to this one before that was lost/,
  })
  t.match(await (await second.manager('POST', '/folders', { id: folder })).json(), { code: 'volume_unavailable' })

  await t.test('is accepted on purpose', async (t) => {
    const { found } = await second.ask('GET', '/volumes/default/identity')
    t.match(await (await second.manager('POST', '/volumes/default/accept', { found: null })).json(), { status: 503 })
    t.match(await second.ask('POST', '/volumes/default/accept', { found }), { health: { healthy: true } })
    t.equal((await readiness(second)).status, 200)
    t.ok((await readdir(join(root, 'folders'))).length > 0, 'what was there is there')
    await second.end()
    t.equal((await readiness(await start())).status, 200, 'and stays accepted')
  })
})

t.test('a database that was restored from an older copy', async (t) => {
  const { dataDir, root, start, folder } = await used(t)
  await copyDatabase(dataDir)
  const second = await start()
  await second.createFolder()
  await second.end()
  await restoreDatabase(dataDir)
  const third = await start()
  await assertRefused(t, third, folder, root, /it was used after this copy of the database was made/)
  const { found, expected } = await third.ask('GET', '/volumes/default/identity')
  t.equal(found, expected)
  await third.ask('POST', '/volumes/default/accept', { found })
  t.equal((await readiness(third)).status, 200)
})

t.test('what a restored database does not know is listed, adopted and removed', async (t) => {
  const { dataDir, start, folder } = await used(t)
  await copyDatabase(dataDir)
  const second = await start()
  const later = await Promise.all(Array.from({ length: 7 }, () => second.createFolder()))
  for (const id of later) await second.upload(id, { 'dir/b.txt': 'stored after the copy' })
  await second.end()
  await restoreDatabase(dataDir)
  const third = await start()
  const { found } = await third.ask('GET', '/volumes/default/identity')
  await third.ask('POST', '/volumes/default/accept', { found })

  const listed: string[] = []
  let cursor = ''
  do {
    const page = await third.ask('GET', `/volumes/default/orphans?limit=2${cursor}`)
    t.ok(page.orphans.length <= 2)
    listed.push(...page.orphans.map(({ id }: Answer) => id))
    cursor = page.nextCursor === null ? '' : `&cursor=${page.nextCursor}`
  } while (cursor !== '')
  t.same(listed.toSorted(), later.toSorted())

  const [adopted, removed] = later
  const created = await third.manager('POST', '/folders', { id: adopted })
  t.match(
    await created.json(),
    { status: 409, code: 'vfolder_orphaned' },
    'old files are not shown as those of a new one',
  )
  const cloned = await third.manager('POST', `/folders/${folder}/clone`, { id: adopted })
  t.match(await cloned.json(), { status: 409, code: 'vfolder_orphaned' }, 'nor does a clone remove them')
  const again = await third.manager('POST', '/folders', { id: adopted })
  t.match(await again.json(), { status: 409, code: 'vfolder_orphaned' }, 'nor does the second call')
  t.equal((await third.manager('GET', `/folders/${adopted}`)).status, 404)

  const { folder: vfolder, job } = await third.ask('POST', `/volumes/default/orphans/${adopted}/adopt`)
  t.match(vfolder, { id: adopted, volume: 'default', state: 'ready' })
  const repeated = () => third.ask('POST', `/volumes/default/orphans/${adopted}/adopt`)
  t.match(await repeated(), { folder: { id: adopted }, job: { id: job.id } }, 'the answer may have been lost')
  t.match(await ended(third, job.id), { state: 'succeeded' })
  t.match(await repeated(), { folder: { id: adopted }, job: { id: job.id, state: 'succeeded' } })
  t.match(await third.ask('GET', `/folders/${adopted}`), { usage: { files: 1, bytes: 21 } })
  const content = await third.manager('GET', `/folders/${adopted}/content/dir/b.txt`)
  t.equal(await content.text(), 'stored after the copy')

  const answer = await third.ask('DELETE', `/volumes/default/orphans/${removed}`)
  const anew = await third.manager('DELETE', `/volumes/default/orphans/${removed}`)
  t.ok([202, 404].includes(anew.status), 'a second removal is the first one, or finds nothing')
  if (anew.status === 202) t.match(await anew.json(), { job: { id: answer.job.id } })
  t.match(await ended(third, answer.job.id), { state: 'succeeded' })
  const { orphans } = await third.ask('GET', '/volumes/default/orphans')
  t.same(orphans.map(({ id }: Answer) => id).toSorted(), later.slice(2).toSorted())

  for (const [id, status] of [
    [folder, 409],
    [randomUUID(), 404],
  ] as const) {
    t.equal((await third.manager('POST', `/volumes/default/orphans/${id}/adopt`)).status, status)
    t.equal((await third.manager('DELETE', `/volumes/default/orphans/${id}`)).status, status)
  }
})

t.test('a database that is deleted under a running service', onlySqlite, async (t) => {
  const { dataDir, start } = await used(t)
  const server = await start()
  await loseDatabase(dataDir)
  const ready = await readiness(server)
  t.match(ready, { status: 503, checks: [{ name: 'database', healthy: false, reason: /is gone|another file/ }] })
})

t.test('a mark that cannot be read', async (t) => {
  const { root, start, folder } = await used(t)
  await cp(join(root, 'identity'), join(root, 'identity.kept'))
  await writeFile(join(root, 'identity'), '{"volume": 7')
  const second = await start()
  await assertRefused(t, second, folder, root, /its identity cannot be read/)
  await rename(join(root, 'identity.kept'), join(root, 'identity'))
  t.equal((await readiness(second)).status, 200)
  t.match(JSON.parse(await readFile(join(root, 'identity'), 'utf8')), { volume: String, database: String })

  await t.test('from some time on', async (t) => {
    await rename(join(root, 'identity'), join(root, 'identity.kept'))
    await mkdir(join(root, 'identity'))
    t.equal((await readiness(second)).status, 503)
    await assertRefused(t, second, folder, root, /its identity cannot be read/)
    await rmdir(join(root, 'identity'))
    await rename(join(root, 'identity.kept'), join(root, 'identity'))
    t.equal((await readiness(second)).status, 200)
  })
})

t.test('a mark that cannot be read is accepted on purpose, too', async (t) => {
  const { root, start, read } = await used(t)
  await writeFile(join(root, 'identity'), 'nonsense')
  const second = await start()
  t.match(await second.ask('GET', '/volumes/default/identity'), { expected: String, found: null })
  await second.ask('POST', '/volumes/default/accept', { found: null })
  t.equal((await readiness(second)).status, 200)
  t.equal(await read(second), 'as it was')
})

t.test('several processes that use a volume first, at once, agree on it', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const servers = await Promise.all(Array.from({ length: 4 }, () => startServer(t, { dataDir })))
  for (const server of servers) {
    const { expected, found } = await server.ask('GET', '/volumes/default/identity')
    t.equal(found, expected)
    t.equal((await readiness(server)).status, 200)
    await server.createFolder()
  }
})

t.test('a crash in the middle of the first use is gone on from', async (t) => {
  for (const hasMark of [false, true]) {
    const dataDir = await temporaryDirectory(t)
    const first = await startServer(t, { dataDir })
    const { expected } = await first.ask('GET', '/volumes/default/identity')
    await first.end()
    await changeDatabase(dataDir, 'UPDATE volumes SET is_marked = 0')
    const identity = join(dataDir, 'volumes/default/identity')
    if (!hasMark) await rm(identity)
    const second = await startServer(t, { dataDir })
    t.equal((await readiness(second)).status, 200, hasMark ? 'after the mark was written' : 'before')
    t.match(await second.ask('GET', '/volumes/default/identity'), { expected, found: expected })
    await second.end()
    await rm(identity)
    t.equal((await readiness(await startServer(t, { dataDir }))).status, 503, 'from then on it is known')
  }
})
