import { createHash, randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { chmod, lstat, mkdir, readdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import t from 'tap'
import { type Answer, ended, type Server, startServer, temporaryDirectory } from '../server.ts'

const hex = (uuid: string) => uuid.replaceAll('-', '')

/** Where Backend.AI's storage-proxy has a vfolder. */
function placeOf(root: string, scope: string, id: string): string {
  const digits = hex(id)
  return join(root, hex(scope), digits.slice(0, 2), digits.slice(2, 4), digits.slice(4))
}

/** All that is there but what has our name: kinds, owners, modes, times and bytes. */
async function describeTree(root: string): Promise<Record<string, string>> {
  const tree: Record<string, string> = {}
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (path.includes('/.storage-proxy')) continue
    const { uid, gid, mode, mtimeMs } = await lstat(path)
    const content = entry.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : ''
    const target = entry.isSymbolicLink() ? readlinkSync(path) : ''
    tree[relative(root, path)] = [uid, gid, mode.toString(8), mtimeMs, content, target].join(' ')
  }
  return tree
}

async function adopt(server: Server, body: object): Promise<Answer> {
  const { job } = await server.ask('POST', '/volumes/default/orphans/adopt', body)
  return ended(server, job.id)
}

const [user, project] = [randomUUID(), randomUUID()]
const [first, second, third] = [randomUUID(), randomUUID(), randomUUID()]
const whole = t
const root = await temporaryDirectory(t)
const dataDir = await temporaryDirectory(t)

/** What Backend.AI, and the containers of its users, have left there. */
for (const [scope, id] of [
  [user, first],
  [user, second],
  [project, third],
] as const) {
  const place = placeOf(root, scope, id)
  await mkdir(join(place, 'dir/.cache'), { recursive: true })
  await writeFile(join(place, 'dir/run.sh'), `echo ${id}`)
  await chmod(join(place, 'dir/run.sh'), 0o750)
  await symlink('dir/run.sh', join(place, 'link'))
  await utimes(join(place, 'dir/run.sh'), new Date(0), new Date('2024-01-02T03:04:05Z'))
}
await writeFile(join(root, 'note-of-the-operator'), '')
await mkdir(join(root, 'lost+found'))
const before = await describeTree(root)

// Only root may give a directory to somebody else.
const owner = process.getuid?.() === 0 ? { uid: 1234, gid: 2345 } : {}
const options = { ...owner, directoryMode: '0775' }
const VOLUMES = JSON.stringify({ default: { backend: 'posix', root, layout: 'backend-ai', ...options } })
let server = await startServer(t, { env: { VOLUMES }, dataDir })

t.test('a volume that Backend.AI has filled is taken over as it is', async (t) => {
  const refused = await server.manager('POST', '/volumes/default/orphans/adopt', {})
  t.match(await refused.json(), { status: 503, code: 'volume_unavailable', detail: /it has vfolders/ })
  await server.ask('POST', '/volumes/default/accept', { found: null })

  const page = await server.ask('GET', '/volumes/default/orphans?limit=2')
  const rest = await server.ask('GET', `/volumes/default/orphans?cursor=${page.nextCursor}`)
  const orphans = [...page.orphans, ...rest.orphans]
  t.same(orphans.map(({ id, scope }: Answer) => `${scope}/${id}`).toSorted(), [
    ...[`${user}/${first}`, `${user}/${second}`, `${project}/${third}`].toSorted(),
  ])
  const bytes = `echo ${first}`.length
  const some = await adopt(server, { quotaScopes: [`user:${user}`] })
  t.match(some, { state: 'succeeded', progress: { filesDone: 4, bytesDone: 2 * bytes } })
  t.match(some.result, { adopted: 2, left: 1, scopes: [project], failed: 0, files: 4, bytes: 2 * bytes })
  t.match((await adopt(server, { otherScopes: 'project' })).result, { adopted: 1, left: 0, failed: 0, files: 2 })
  t.match((await adopt(server, { otherScopes: 'user' })).result, { adopted: 0, left: 0, files: 0 }, 'nothing is left')

  t.match(await server.ask('GET', `/folders/${first}`), { quotaScope: `user:${user}`, usage: { files: 2, bytes } })
  t.match(await server.ask('GET', `/folders/${third}`), { quotaScope: `project:${project}`, usage: { files: 2 } })
  const content = await server.manager('GET', `/folders/${first}/content/link`)
  t.equal(await content.text(), `echo ${first}`)
  t.equal(await server.mountOf(second), placeOf(root, user, second))
  t.same(await describeTree(root), before, 'nothing has changed on the storage')
})

t.test('a root that is laid out in another way stops the start', async (t) => {
  const asOurs = JSON.stringify({ default: { backend: 'posix', root } })
  await t.rejects(
    startServer(t, { env: { VOLUMES: asOurs } }),
    /it has \.storage-proxy, so it is of .* another .* layout/,
  )
  const theirs = await temporaryDirectory(t)
  await mkdir(placeOf(theirs, user, first), { recursive: true })
  const unnamed = JSON.stringify({ default: { backend: 'posix', root: theirs } })
  await t.rejects(startServer(t, { env: { VOLUMES: unnamed } }), /its layout must be backend-ai/)
})

t.test('what the calls ask for', async (t) => {
  const fails = async (path: string, body: object | undefined, rule: RegExp) => {
    const response = await server.manager('POST', path, body)
    t.match(await response.json(), { status: 400, code: 'validation_failed', detail: rule })
  }
  const both = [`user:${user}`, `project:${user}`]
  await fails('/volumes/default/orphans/adopt', { quotaScopes: both }, /quotaScopes has .* one directory/)
  await fails('/volumes/default/orphans/adopt', { quotaScopes: ['user:ada'] }, /quotaScopes has user:ada/)
  await fails('/folders', {}, /quotaScope must be user:UUID or project:UUID/)
  await fails('/folders', { quotaScope: 'user:ada' }, /quotaScope must be/)
  await fails(`/folders/${first}/clone`, { quotaScope: null }, /quotaScope must be/)
  await fails(`/volumes/default/orphans/${randomUUID()}/adopt`, undefined, /querystring quotaScope must be/)
})

t.test('vfolders are made, filled, moved between, cloned and removed where Backend.AI looks for them', async (t) => {
  const scope = randomUUID()
  const id = await server.createFolder({ quotaScope: `project:${scope}` })
  const place = placeOf(root, scope, id)
  t.equal(await server.mountOf(id), place)
  for (const path of [place, dirname(place), dirname(dirname(place)), join(root, hex(scope))]) {
    t.match(await lstat(path), { ...owner, mode: 0o040775 }, `${relative(root, path)} is as the options say`)
  }
  await server.upload(id, { 'a/b.txt': 'small', 'large.bin': Buffer.alloc(200_000, 1) })
  t.equal(readFileSync(join(place, 'a/b.txt'), 'utf8'), 'small')
  await server.ask('POST', `/folders/${id}/files/move`, { from: 'a/b.txt', to: 'c.txt' })
  await server.ask('POST', `/folders/${id}/files/move`, { from: 'c.txt', to: 'c.txt', toFolder: first })
  t.equal(readFileSync(join(placeOf(root, user, first), 'c.txt'), 'utf8'), 'small')
  await server.ask('POST', `/folders/${id}/files/copy`, { from: 'large.bin', to: 'a/copy.bin' })
  await server.ask('POST', `/folders/${id}/files/copy`, { from: 'a', to: 'd' })
  await server.ask('POST', `/folders/${id}/files/delete`, { paths: ['a'], recursive: true })

  const clone = { quotaScope: `user:${user}` }
  const { job, folder } = await server.ask('POST', `/folders/${id}/clone`, clone)
  t.match(await ended(server, job.id), { state: 'succeeded', result: { files: 2 } })
  t.same((await readdir(placeOf(root, user, folder.id))).sort(), ['d', 'large.bin'])

  const { job: deletion } = await server.ask('DELETE', `/folders/${id}`)
  t.match(await ended(server, deletion.id), { state: 'succeeded', result: { files: 2 } })
  t.same(await readdir(dirname(place)), [])
  const known = await readdir(join(root, hex(scope), '.storage-proxy'))
  for (const name of known) t.same(await readdir(join(root, hex(scope), '.storage-proxy', name)), [], name)
})

t.test('another process finds all of them, and an interrupted adoption goes on', async (t) => {
  const more = Array.from({ length: 30 }, () => randomUUID())
  for (const id of more) await mkdir(placeOf(root, project, id), { recursive: true })
  const { job } = await server.ask('POST', '/volumes/default/orphans/adopt', { otherScopes: 'project' })
  const again = await server.ask('POST', '/volumes/default/orphans/adopt', { otherScopes: 'project' })
  t.match(again.job, { id: /./, kind: 'adopt-vfolders' })
  await server.end('SIGKILL')
  server = await startServer(whole, { env: { VOLUMES, LEASE_SECONDS: '1' }, dataDir })
  t.match(await ended(server, job.id), { state: 'succeeded', result: { left: 0, failed: 0 } })
  const { folders } = await server.ask('GET', '/folders?limit=100')
  t.same(
    more.filter((id) => !folders.some((folder: Answer) => folder.id === id && folder.usage.syncedAt)),
    [],
  )
  t.match(await server.ask('GET', `/folders/${first}/files`), {
    entries: [{ path: 'c.txt' }, { path: 'dir' }, { path: 'link' }],
  })
})

t.test('the way back: beside its own Backend.AI finds nothing but directories that it does not look at', async (t) => {
  await server.end()
  const after = await describeTree(root)
  const own = Object.keys(before).filter((path) => /run\.sh|link|note/.test(path))
  t.same(
    own.map((path) => after[path]),
    own.map((path) => before[path]),
  )
  const shape = /^[0-9a-f]{32}(\/[0-9a-f]{2}(\/[0-9a-f]{2}(\/[0-9a-f]{28}(\/.*)?)?)?)?$|^note|^lost/
  t.same(
    Object.keys(after).filter((path) => !shape.test(path)),
    [],
  )
})
