import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { mountImage, run } from '../loop-image.ts'
import { startInVain } from '../postgres/service.ts'
import { ended, eventually, Files, formOf, type Server, startServer, temporaryDirectory } from '../server.ts'
import { chunkType, signTus, tus } from '../tus.ts'

const MiB = 1024 * 1024
const refused = { status: 507, code: 'quota_exceeded' }

t.test('without quota groups the start says what to do', async (t) => {
  const volume = { backend: 'btrfs', root: await temporaryDirectory(t) }
  const { code, output } = await startInVain(t, { VOLUMES: JSON.stringify({ default: volume }) })
  t.equal(code, 1)
  t.match(output, /root must be on Btrfs with quota groups: `btrfs quota enable` turns them on/)
})

t.test('a volume on Btrfs', async (t) => {
  const image = await mountImage(t, ['mkfs.btrfs', '-q'], 16 * 1024)
  run('btrfs', 'quota', 'enable', image)
  const root = join(image, 'volume')
  const plain = { backend: 'posix', root: await temporaryDirectory(t) }
  const env = { VOLUMES: JSON.stringify({ default: { backend: 'btrfs', root }, plain }) }
  const server = await startServer(t, { env })
  const filesOf = async (body: object) => {
    const folder = await server.createFolder(body)
    return new Files(server, folder, await server.mountOf(folder))
  }

  await t.test('the limits of a vfolder are those of its quota group', async (t) => {
    const files = await filesOf({ quota: { bytes: 8 * MiB } })
    t.equal(groupOf(files).limit, 8 * MiB)
    await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 16 * MiB, files: 10 } })
    t.equal(groupOf(files).limit, 16 * MiB)
    run('btrfs', 'qgroup', 'limit', 'none', dirname(files.mount))
    await sync(server, files)
    t.equal(groupOf(files).limit, 16 * MiB, 'a sync sets a limit that was lost')
    await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: null } })
    t.equal(groupOf(files).limit, null)
  })

  await t.test('the kernel refuses what goes over a limit, and nothing of it stays', async (t) => {
    const files = await filesOf({ quota: { bytes: 24 * MiB } })
    const { folder, mount } = files
    await files.upload({ 'dir/own.bin': randomBytes(4 * MiB) })
    await writeFile(join(mount, 'past.bin'), randomBytes(14 * MiB))
    const before = await files.ndjson('recursive=true')

    const url = (
      await server.ask('POST', `/folders/${folder}/signed-urls`, { operation: 'upload', paths: ['new.bin'] })
    ).signedUrls[0].url
    const put = await fetch(url, { method: 'PUT', body: randomBytes(12 * MiB) })
    t.match(await put.json(), refused, 'a PUT')

    const tusUrl = await signTus(files, 'tus.bin')
    const { headers } = await tus('POST', tusUrl, { 'upload-length': String(12 * MiB) })
    const upload = headers.get('location') ?? ''
    const patched = await tus('PATCH', upload, { ...chunkType, 'upload-offset': '0' }, randomBytes(12 * MiB))
    t.match(patched, refused, 'an append')
    t.equal((await tus('DELETE', upload)).status, 204)

    const outside = await filesOf({})
    await outside.upload({ 'large/file': randomBytes(12 * MiB) })
    for (const from of ['large/file', 'large']) {
      const body = { from, to: `of-${from}`, toFolder: folder }
      t.match(await outside.post('copy', body), [507, refused], `a copy of ${from}`)
      t.match(await outside.post('move', body), [507, refused], `a move of ${from}`)
    }
    t.same(await outside.ndjson('recursive=true'), ['large/', 'large/file'])

    t.same(await files.ndjson('recursive=true'), before)
    t.same(readdirSync(join(mount, '../staging')), [])
    await sync(server, files)
    const { bytes } = await files.usage()
    t.equal(bytes, groupOf(files).bytes, 'the usage is what the quota group says')
    t.ok(bytes > 18 * MiB && bytes < 20 * MiB, `${bytes} bytes`)
    await reservesNothing(t, files)
  })

  await t.test('so does a copy of files that need room for their names alone', async (t) => {
    const source = await filesOf({})
    mkdirSync(join(source.mount, 'dir'))
    for (let index = 0; index < 2000; index++) writeFileSync(join(source.mount, 'dir', `file-${index}`), '')
    const target = await filesOf({ quota: { bytes: MiB / 2 } })
    const copied = await source.post('copy', { from: 'dir', to: 'dir', toFolder: target.folder })
    t.match(copied, [507, refused])
    t.match(copied[1].detail, /a limit of the storage/)
    t.same(await target.ndjson('recursive=true'), [])
    t.same(readdirSync(join(target.mount, '../staging')), [])
  })

  await t.test('so does a clone that comes file by file', async (t) => {
    const source = await filesOf({ volume: 'plain' })
    for (let index = 0; index < 2000; index++) writeFileSync(join(source.mount, `${index}`.padStart(200, '-')), '')
    await server.ask('PUT', '/quota-scopes/cloner', { files: 3000 })
    const clone = { volume: 'default', quota: { bytes: MiB / 2 }, quotaScope: 'cloner' }
    const { job, folder } = await server.ask('POST', `/folders/${source.folder}/clone`, clone)
    t.match(await ended(server, job.id), { state: 'failed', error: { code: 'quota_exceeded' } })
    await eventually(async () => (await server.manager('GET', `/folders/${folder.id}`)).status === 404)
    await server.ask('PUT', '/quota-scopes/cloner', { files: 0 })
    const other = await server.createFolder({ quotaScope: 'cloner' })
    const form = await server.manager('POST', `/folders/upload?folder=${other}`, formOf({ file: 'content' }))
    t.match(await form.json(), { ...refused, limit: 'quotaScope', usage: 0, reserved: 0 }, 'its room is given back')
    t.same(readdirSync(join(root, 'trash')), [])
  })

  await t.test('a vfolder that is full can be emptied', async (t) => {
    const files = await filesOf({ quota: { bytes: 8 * MiB } })
    await files.upload({ 'é/a/b': 'content', 'é/c': 'content' })
    const fill = () => {
      for (let index = 0; ; index++) writeFileSync(join(files.mount, 'é', `${index}`), randomBytes(8 * 1024))
    }
    t.throws(fill, /error -122/)
    t.match(await files.post('mkdir', { path: 'one-more' }), [507, refused])
    t.match(await files.post('delete', { paths: ['é'], recursive: true }), [200, { deleted: ['é'], missing: [] }])
    t.notOk(readdirSync(files.mount).includes('é'))
    run('sync', '-f', files.mount)
    await files.upload({ small: 'content' })
  })

  await t.test('what is stored in a directory while it is moved away is not lost', async (t) => {
    const [from, to] = [await filesOf({}), await filesOf({})]
    await from.upload({ 'dir/0': 'content' })
    for (let index = 0; index < 1500; index++) writeFileSync(join(from.mount, 'dir', `file-${index}`), 'old')
    let isMoved = false
    const moving = from.post('move', { from: 'dir', to: 'dir', toFolder: to.folder }).finally(() => {
      isMoved = true
    })
    const stored: string[] = []
    for (let index = 0; !isMoved; index++) {
      const path = `dir/${index % 2 === 0 ? 'new' : 'file'}-${index}`
      await from.upload({ [path]: `new ${index}` })
      stored.push(path)
    }
    t.match(await moving, [200, { path: 'dir' }])
    const found = (path: string) =>
      [from, to].some(({ mount }) => existsSync(join(mount, path)) && readFileSync(join(mount, path), 'utf8') !== 'old')
    t.same(
      stored.filter((path) => !found(path)),
      [],
    )
    t.ok(existsSync(join(to.mount, 'dir/file-1499')))
    t.notOk(existsSync(join(from.mount, 'dir/file-1499')))
  })

  await t.test('what was removed through a mount makes room at once', async (t) => {
    const files = await filesOf({ quota: { bytes: 24 * MiB } })
    await files.upload({ 'a.bin': randomBytes(18 * MiB) })
    rmSync(join(files.mount, 'a.bin'))
    await files.upload({ 'b.bin': randomBytes(18 * MiB) })
    await server.logged(({ msg, folder }) => msg === 'usage taken from the storage' && folder === files.folder)
    t.same(await files.ndjson(''), ['b.bin'])
  })

  await t.test('what was written through a mount counts before a large file is sent', async (t) => {
    const files = await filesOf({ quota: { bytes: 100 * MiB } })
    run('fallocate', '-l', '60M', join(files.mount, 'past.bin'))
    const body = { operation: 'upload', paths: ['large.bin'] }
    const { url } = (await server.ask('POST', `/folders/${files.folder}/signed-urls`, body)).signedUrls[0]
    const put = await fetch(url, { method: 'PUT', body: Buffer.alloc(64 * MiB) })
    t.match(await put.json(), { ...refused, limit: 'vfolder', unit: 'bytes', wanted: 64 * MiB, reserved: 0 })
    t.ok((await files.usage()).bytes >= 60 * MiB)
  })

  await t.test('what is deleted stays in the subvolume until it is restored, and no snapshot has it', async (t) => {
    const VOLUMES = JSON.stringify({ default: { backend: 'btrfs', root: join(image, 'kept') } })
    const server = await startServer(t, { env: { VOLUMES, TRASH_RETENTION_SECONDS: '86400' } })
    const folder = await server.createFolder({ quota: { bytes: 64 * MiB } })
    const files = new Files(server, folder, await server.mountOf(folder))
    await files.upload({ 'dir/file': randomBytes(8 * MiB), stays: 'stays' })
    const stats = () => {
      const { ino, mtimeMs, size } = statSync(join(files.mount, 'dir/file'))
      return { ino, mtimeMs, size }
    }
    const before = stats()
    await files.post('delete', { paths: ['dir'], recursive: true })
    t.same((await files.keys('recursive=true')).flat(), ['stays'])
    await sync(server, files)
    t.ok((await files.usage()).bytes >= 8 * MiB, 'it takes its room')

    const { job } = await server.ask('POST', `/folders/${folder}/clone`, {})
    const { folder: clone } = await ended(server, job.id)
    t.same(readdirSync(dirname(await server.mountOf(clone))).sort(), ['files', 'staging', 'uploads'])

    const { entries } = await server.ask('GET', `/folders/${folder}/trash`)
    await server.ask('POST', `/folders/${folder}/trash/${entries[0].id}/restore`, {})
    t.same(stats(), before, 'it was moved, not copied')
    t.same((await files.keys('recursive=true')).flat(), ['dir/', 'dir/file', 'stays'])
  })

  await t.test('a vfolder of 10 GiB is cloned by a snapshot', async (t) => {
    const source = await filesOf({})
    await source.upload({ 'dir/small': 'content' })
    run('fallocate', '-l', '10G', join(source.mount, 'large'))
    run('sync', '-f', source.mount)
    const { job, folder } = await server.ask('POST', `/folders/${source.folder}/clone`, {
      quota: { bytes: 11 * 2 ** 30 },
    })
    const { result, startedAt, finishedAt } = await ended(server, job.id)
    t.comment(`the job took ${Date.parse(finishedAt) - Date.parse(startedAt)} ms`)
    t.match(result, { changedCount: 0 })
    const clone = new Files(server, folder.id, await server.mountOf(folder.id))
    t.ok(groupOf(clone).bytes > 10 * 2 ** 30)
    t.ok(groupOf(clone).exclusive < MiB, 'it shares the blocks')
    t.equal(groupOf(clone).limit, 11 * 2 ** 30)
    t.equal((await clone.usage()).bytes, groupOf(clone).bytes)
    t.equal(statSync(join(clone.mount, 'large')).size, 10 * 2 ** 30)
    t.same(await clone.ndjson('recursive=true'), await source.ndjson('recursive=true'))

    const removal = await server.ask('DELETE', `/folders/${clone.folder}`)
    await ended(server, removal.job.id)
    t.same(readdirSync(join(root, 'trash')), [])
    t.same(await source.ndjson('recursive=true'), ['dir/', 'dir/small', 'large'])
  })

  t.equal(await server.end(), 0)
})

/** What the kernel says of a vfolder: a line of `0/256 REFERENCED EXCLUSIVE LIMIT …`. */
function groupOf({ mount }: Files) {
  const shown = run('btrfs', 'qgroup', 'show', '--raw', '--sync', '-ref', dirname(mount))
  const [, bytes, exclusive, limit] = shown.trim().split('\n').at(-1)!.trim().split(/\s+/)
  return { bytes: Number(bytes), exclusive: Number(exclusive), limit: limit === 'none' ? null : Number(limit) }
}

async function sync(server: Server, { folder }: Files): Promise<void> {
  const { job } = await server.ask('POST', `/folders/${folder}/sync`)
  await ended(server, job.id)
}

/** The room of what was refused was given back: a refusal by the counters tells what others have reserved. */
async function reservesNothing(t: Test, files: Files): Promise<void> {
  await files.server.ask('PATCH', `/folders/${files.folder}`, { quota: { files: 1 } })
  const form = new FormData()
  form.append('file', new Blob(['x']), 'one-more')
  const response = await files.server.manager('POST', `/folders/upload?folder=${files.folder}`, form)
  t.match(await response.json(), { ...refused, unit: 'files', reserved: 0 })
}
