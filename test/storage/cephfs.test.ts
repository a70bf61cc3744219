import { randomBytes } from 'node:crypto'
import { readdirSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t from 'tap'
import { mountCephfs } from '../ceph/filesystem.ts'
import { run } from '../loop-image.ts'
import { startCluster, startSharing } from '../postgres/service.ts'
import { ended, eventually, Files, type Server } from '../server.ts'
import { chunkType, signTus, tus } from '../tus.ts'

const MiB = 1024 * 1024
const refused = { status: 507, code: 'quota_exceeded' }

t.test('two processes, each with a mount of its own of one CephFS', async (t) => {
  const mounts = await mountCephfs(t, 2)
  const cluster = await startCluster(t)
  await cluster.query('postgres', 'create database cephfs')
  const start = async (mount: string) => {
    const root = join(mount, 'volume')
    const env = { VOLUMES: JSON.stringify({ default: { backend: 'cephfs', root } }) }
    return startSharing(t, { url: cluster.url('cephfs'), root, env })
  }
  const [one, other] = [await start(mounts[0]!), await start(mounts[1]!)]
  const filesOf = async (body: object) => {
    const folder = await one.createFolder(body)
    return {
      ofOne: new Files(one, folder, await one.mountOf(folder)),
      ofOther: new Files(other, folder, await other.mountOf(folder)),
    }
  }

  await t.test('a limit that one process sets is that of the directory, for all', async (t) => {
    const { ofOne, ofOther } = await filesOf({ quota: { bytes: 8 * MiB, files: 100 } })
    t.same(limitsOf(ofOther), { bytes: 8 * MiB, files: 105 })
    await other.ask('PATCH', `/folders/${ofOther.folder}`, { quota: { bytes: 16 * MiB, files: null } })
    t.same(limitsOf(ofOne), { bytes: 16 * MiB, files: 0 })
    run('setfattr', '-n', 'ceph.quota.max_bytes', '-v', '0', dirname(ofOne.mount))
    await sync(one, ofOne)
    t.same(limitsOf(ofOther), { bytes: 16 * MiB, files: 0 }, 'a sync sets a limit that was lost')
  })

  await t.test('what users write through one mount is refused and counted at the other', async (t) => {
    const { ofOne, ofOther } = await filesOf({ quota: { bytes: 16 * MiB } })
    await ofOne.upload({ 'dir/own.bin': randomBytes(2 * MiB) })
    await writeFile(join(ofOne.mount, 'dir/past.bin'), randomBytes(16 * MiB))
    const before = await ofOther.ndjson('recursive=true')
    await eventually(() => toldOf(ofOther, 'rbytes') === 18 * MiB)

    const form = new FormData()
    form.append('file', new Blob([randomBytes(4 * MiB)]), 'new.bin')
    const response = await other.manager('POST', `/folders/upload?folder=${ofOther.folder}`, form)
    t.match(await response.json(), refused, 'a form')
    const created = await tus('POST', await signTus(ofOther, 'tus.bin'), { 'upload-length': String(4 * MiB) })
    const upload = created.headers.get('location') ?? ''
    const patch = tus('PATCH', upload, { ...chunkType, 'upload-offset': '0' }, randomBytes(4 * MiB))
    t.match(await patch, refused, 'an append')
    t.equal((await tus('DELETE', upload)).status, 204)
    t.match(await ofOther.post('copy', { from: 'dir/own.bin', to: 'copy.bin' }), [507, refused], 'a copy')
    t.match(await ofOther.post('copy', { from: 'dir', to: 'copy' }), [507, refused], 'a copy of a directory')
    t.same(await ofOne.ndjson('recursive=true'), before)
    t.same(readdirSync(join(ofOne.mount, '../staging')), [])

    await sync(other, ofOther)
    t.same(await ofOne.usage(), { bytes: toldOf(ofOne, 'rbytes'), files: toldOf(ofOne, 'rfiles') })
    t.same(await ofOne.usage(), { bytes: 18 * MiB, files: 2 })
  })

  await t.test('what was removed through a mount makes room', async (t) => {
    const { ofOne, ofOther } = await filesOf({ quota: { bytes: 16 * MiB } })
    await ofOne.upload({ 'a.bin': randomBytes(12 * MiB) })
    rmSync(join(ofOther.mount, 'a.bin'))
    await ofOne.upload({ 'b.bin': randomBytes(12 * MiB) })
    t.same(await ofOther.ndjson(''), ['b.bin'])
    await one.logged(({ msg, folder }) => msg === 'usage taken from the storage' && folder === ofOne.folder)
  })
})

function limitsOf({ mount }: Files) {
  const limitOf = (name: string) => attribute(dirname(mount), `ceph.quota.${name}`)
  return { bytes: limitOf('max_bytes'), files: limitOf('max_files') }
}

function toldOf({ mount }: Files, name: 'rbytes' | 'rfiles'): number {
  return attribute(mount, `ceph.dir.${name}`)
}

function attribute(directory: string, name: string): number {
  return Number(run('getfattr', '--only-values', '--absolute-names', '-n', name, directory))
}

async function sync(server: Server, { folder }: Files): Promise<void> {
  const { job } = await server.ask('POST', `/folders/${folder}/sync`)
  await ended(server, job.id)
}
