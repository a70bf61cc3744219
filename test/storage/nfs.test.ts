import { randomBytes } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { createFuseMount } from '../fuse-mount.ts'
import { type Answer, ended, eventually, Files, startServer, temporaryDirectory } from '../server.ts'

const script = fileURLToPath(new URL('../nfs-like.py', import.meta.url))
const silly = /^\.nfs[0-9a-f]{24}$/
const seconds = String(10 ** 9)
/** More than connections take while nobody reads. */
const large = randomBytes(24 * 1024 * 1024)

t.test('a volume on NFS', async (t) => {
  const stale = await temporaryDirectory(t)
  const fuse = await createFuseMount(t, ({ source, point }) => [
    '/usr/bin/python3',
    script,
    source,
    point,
    stale,
    seconds,
  ])
  const env = { VOLUMES: JSON.stringify({ default: { backend: 'nfs', root: fuse.point } }) }
  const server = await startServer(t, { env })
  const checkOf = async (): Promise<Answer> => {
    const response = await fetch(`${server.managerUrl}/readyz`)
    return ((await response.json()) as Answer).checks.find(({ name }: Answer) => name === 'volume:default')
  }
  const reason = /^the volume is on \w+ and not on nfs or nfs4 or fuse\.fuse-nfs; it may not be mounted$/
  t.match(await checkOf(), { healthy: false, reason })
  await fuse.mount()
  await eventually(async () => (await checkOf()).healthy)
  const filesOf = async () => {
    const folder = await server.createFolder()
    return new Files(server, folder, await server.mountOf(folder))
  }
  const read = async ({ folder }: Files, path: string) =>
    Buffer.from(await (await server.manager('GET', `/folders/${folder}/content/${path}`)).arrayBuffer())

  await t.test('a file that is removed while it is open is no entry', async (t) => {
    const files = await filesOf()
    const { folder } = files
    await files.upload({ 'dir/deep/large': large, 'dir/deep/other': 'other', 'alone/large': large })
    const downloads = [
      await fetch(await server.sign(folder, 'dir/deep/large')),
      await fetch(await server.sign(folder, 'alone/large')),
    ]
    await files.post('delete', { paths: ['dir/deep/large', 'alone/large'] })
    const names = await readdir(join(files.mount, 'dir/deep'))
    t.equal(names.filter((name) => silly.test(name)).length, 1, 'the client keeps it')
    t.same(await files.ndjson('recursive=true'), ['alone/', 'dir/', 'dir/deep/', 'dir/deep/other'])

    const { folder: clone, job: cloning } = await server.ask('POST', `/folders/${folder}/clone`, {})
    const result = { files: 1, bytes: 5, changedCount: 0 }
    t.match(await ended(server, cloning.id), { state: 'succeeded', result })
    t.match(await server.ask('GET', `/folders/${clone.id}`), { usage: { files: 1, bytes: 5 } })

    await t.test('nor in the way of a deletion', async (t) => {
      t.match(await files.post('delete', { paths: ['alone'] }), [200])
      t.match(await files.post('delete', { paths: ['dir/deep'], recursive: true }), [200])
      t.same(await files.ndjson('recursive=true'), ['dir/'])
      t.same(await files.usage(), { files: 0, bytes: 0 })
      const { job } = await server.ask('DELETE', `/folders/${folder}`)
      t.match(await ended(server, job.id), { state: 'succeeded' })
      t.same(await readdir(join(fuse.source, 'trash')), [])
    })
    for (const download of downloads) t.ok(Buffer.from(await download.arrayBuffer()).equals(large))
  })

  await t.test('a vfolder with a file that is open is deleted', async (t) => {
    const files = await filesOf()
    await files.upload({ 'dir/large': large })
    const download = await fetch(await server.sign(files.folder, 'dir/large'))
    const { job } = await server.ask('DELETE', `/folders/${files.folder}`)
    t.match(await ended(server, job.id), { state: 'succeeded' })
    t.same(await readdir(join(fuse.source, 'trash')), [])
    t.ok(Buffer.from(await download.arrayBuffer()).equals(large))
  })

  await t.test('a handle that the server does not know any more is made anew, once', async (t) => {
    const files = await filesOf()
    await files.upload({ a: 'a', large })
    /** The kernel asks once more by itself where it was given a path. */
    const failing = async (operation: string, times: number) => {
      for (let index = 0; index < times; index++) await writeFile(join(stale, `${operation}-${index}`), '')
    }
    await failing('mkdir', 2)
    t.match(await files.post('mkdir', { path: 'made' }), [201])
    await failing('readdir', 1)
    t.same(await files.ndjson(''), ['a', 'large', 'made/'])
    await failing('open', 2)
    t.equal(String(await read(files, 'a')), 'a')
    await failing('rename', 2)
    t.match(await files.post('move', { from: 'a', to: 'b', overwrite: true }), [200])
    await failing('read', 1)
    t.ok((await read(files, 'large')).equals(large), 'in the middle of a download')
    await failing('unlink', 2)
    t.match(await files.post('delete', { paths: ['b'] }), [200])
    t.same(await files.ndjson(''), ['large', 'made/'])
    t.same(await readdir(stale), [], 'each was met')

    await t.test('but not twice', async (t) => {
      await failing('mkdir', 4)
      t.match(await files.post('mkdir', { path: 'again' }), [503, { code: 'storage_unavailable', detail: /ESTALE/ }])
    })
  })

  await t.test('another filesystem in its place is told', async (t) => {
    fuse.takeAway()
    const other = await createFuseMount(t)
    Object.assign(other, { point: fuse.point })
    await other.mount()
    await eventually(async () => /is on fuse and not on nfs/.test((await checkOf()).reason))
    t.same(await readdir(other.source), [])
  })
})
