import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { ended, Files } from '../server.ts'
import { server } from '../shared-server.ts'

t.test('stat, mkdir and content', async (t) => {
  const files = await server.files()
  await files.upload({ 'dir/a.txt': 'hello' })
  const file = await files.stat('dir/a.txt')
  t.match(file, { path: 'dir/a.txt', type: 'file', size: 5, etag: String })
  t.ok(Math.abs(Date.parse(file.modifiedAt) - Date.now()) < 60_000)
  t.match(await files.stat('dir'), { path: 'dir', type: 'directory', size: 0 })
  t.match(await files.stat('none'), { status: 404, code: 'entry_not_found', detail: 'none does not exist' })

  t.match(await files.post('mkdir', { path: 'new/deep' }), [201, { path: 'new/deep', type: 'directory' }])
  t.match(await files.post('mkdir', { path: 'new/deep' }), [200, { path: 'new/deep', type: 'directory' }])
  t.match(await files.post('mkdir', { path: 'dir/a.txt' }), [409, { code: 'entry_exists' }])
  t.same(await files.usage(), { files: 1, bytes: 5 }, 'directories do not count')

  const url = `/folders/${files.folder}/content/dir/a.txt`
  const whole = await server.manager('GET', url)
  t.equal(await whole.text(), 'hello')
  t.match(Object.fromEntries(whole.headers), { 'content-length': '5', etag: `"${file.etag}"`, 'content-type': /^text/ })
  const part = await server.manager('GET', url, undefined, { range: 'bytes=1-2' })
  t.same([part.status, part.headers.get('content-range'), await part.text()], [206, 'bytes 1-2/5', 'el'])
  t.equal((await server.manager('HEAD', url)).headers.get('content-length'), '5')
})

t.test('move', async (t) => {
  const files = await server.files()
  await files.upload({ 'a.txt': 'a', 'b.txt': 'bb', 'dir/c.txt': 'ccc' })
  t.match(await files.post('move', { from: 'a.txt', to: 'new/place/a.txt' }), [200, { path: 'new/place/a.txt' }])
  t.match(await files.post('move', { from: 'a.txt', to: 'x' }), [404, { code: 'entry_not_found' }])
  t.match(await files.post('move', { from: 'new/place/a.txt', to: 'b.txt' }), [409, { code: 'entry_exists' }])
  t.equal(await readFile(join(files.mount, 'b.txt'), 'utf8'), 'bb')
  t.same(await files.usage(), { files: 3, bytes: 6 })

  t.match((await files.post('move', { from: 'new/place/a.txt', to: 'b.txt', overwrite: true }))[0], 200)
  t.equal(await readFile(join(files.mount, 'b.txt'), 'utf8'), 'a')
  t.same(await files.usage(), { files: 2, bytes: 4 }, 'the replaced file is gone')

  t.match(await files.post('move', { from: 'dir', to: 'dir/sub' }), [409, { code: 'invalid_operation' }])
  t.match(await files.post('move', { from: 'dir', to: 'new' }), [409, { code: 'entry_exists' }])
  t.match(await files.post('move', { from: 'dir', to: 'b.txt', overwrite: true }), [409, { code: 'entry_exists' }])
  t.match(await files.post('move', { from: 'b.txt', to: 'dir', overwrite: true }), [409, { code: 'is_a_directory' }])
  t.match(await files.post('move', { from: 'dir', to: 'moved/dir' }), [200, { path: 'moved/dir', type: 'directory' }])
  t.same(await files.ndjson('recursive=true'), [
    'b.txt',
    'moved/',
    'moved/dir/',
    'moved/dir/c.txt',
    'new/',
    'new/place/',
  ])
  t.same(await files.usage(), { files: 2, bytes: 4 })
})

t.test('copy', async (t) => {
  const files = await server.files()
  await files.upload({ 'a.txt': 'a', 'b.txt': 'bb', 'dir/c.txt': 'ccc', 'dir/sub/d.txt': 'dddd' })
  await symlink('c.txt', join(files.mount, 'dir/link'))
  t.match(await files.post('copy', { from: 'a.txt', to: 'new/a.txt' }), [201, { path: 'new/a.txt', size: 1 }])
  t.same(await files.usage(), { files: 5, bytes: 11 })
  t.match(await files.post('copy', { from: 'a.txt', to: 'b.txt' }), [409, { code: 'entry_exists' }])
  t.match((await files.post('copy', { from: 'a.txt', to: 'b.txt', overwrite: true }))[0], 201)
  t.equal(await readFile(join(files.mount, 'b.txt'), 'utf8'), 'a')
  t.same(await files.usage(), { files: 5, bytes: 10 })
  t.match(await files.post('copy', { from: 'none', to: 'x' }), [404, { code: 'entry_not_found' }])

  t.match(await files.post('copy', { from: 'dir', to: 'tree' }), [201, { path: 'tree', type: 'directory' }])
  t.same(await files.ndjson('path=tree&recursive=true'), ['tree/c.txt', 'tree/link', 'tree/sub/', 'tree/sub/d.txt'])
  t.equal(await readFile(join(files.mount, 'tree/sub/d.txt'), 'utf8'), 'dddd')
  t.equal(await readlink(join(files.mount, 'tree/link')), 'c.txt')
  t.same(await files.usage(), { files: 8, bytes: 17 }, 'the symlink counts as a file without bytes')
  await writeFile(join(files.mount, 'dir/c.txt'), 'changed')
  t.equal(await readFile(join(files.mount, 'tree/c.txt'), 'utf8'), 'ccc', 'a copy is a file of its own')

  for (const to of ['dir', 'dir/sub/copy']) {
    t.match(await files.post('copy', { from: 'dir', to }), [409, { code: 'invalid_operation', detail: /into itself/ }])
  }
  t.match(await files.post('copy', { from: 'dir', to: 'tree' }), [409, { code: 'entry_exists' }])
  t.same(await server.staged(), [])
})

t.test('delete', async (t) => {
  const files = await server.files()
  const names = ['a.txt', 'b.txt', 'dir/c.txt', 'dir/sub/d.txt', 'kept.txt']
  await files.upload(Object.fromEntries(names.map((name) => [name, '12345'])))
  await mkdir(join(files.mount, 'empty'))
  t.match(await files.post('delete', { paths: ['a.txt', 'none', 'a.txt', 'empty', 'no/where'] }), [
    200,
    { deleted: ['a.txt', 'empty'], missing: ['none', 'a.txt', 'no/where'] },
  ])
  t.same(await files.usage(), { files: 4, bytes: 20 })
  const [status, problem] = await files.post('delete', { paths: ['nowhere', 'b.txt', 'dir', 'kept.txt'] })
  t.equal(status, 409)
  t.match(problem, { code: 'directory_not_empty', detail: /^dir / }, 'the first error ends it')
  t.same([problem.deleted, problem.missing], [['b.txt'], ['nowhere']], 'and what was done before is told')
  t.same(await files.usage(), { files: 3, bytes: 15 }, 'what came before the error is deleted, and counted')
  t.same(await files.post('delete', { paths: ['dir'], recursive: true }), [200, { deleted: ['dir'], missing: [] }])
  t.same(await files.usage(), { files: 1, bytes: 5 })
  t.same([await readdir(files.mount), await server.staged()], [['kept.txt'], []])
})

t.test('what is no entry was never counted, so deleting it takes nothing from the usage', async (t) => {
  const files = await server.files()
  await files.upload({ 'kept.txt': '12345', 'dir/a.txt': '12345' })
  execFileSync('mkfifo', ['fifo', 'dir/fifo'], { cwd: files.mount })
  const listening = createServer().listen(join(files.mount, 'socket'))
  await once(listening, 'listening')
  for (const path of ['fifo', 'socket']) {
    t.match(await files.post('delete', { paths: [path] }), [200, { deleted: [path] }])
    t.same(await files.usage(), { files: 2, bytes: 10 }, path)
  }
  listening.close()
  t.match(await files.post('delete', { paths: ['dir'], recursive: true }), [200, { deleted: ['dir'] }])
  t.same(await files.usage(), { files: 1, bytes: 5 })
  t.same(await readdir(files.mount), ['kept.txt'])
})

t.test('a path of 4096 bytes', async (t) => {
  const files = await server.files()
  // With the root of the volume it is longer than any path that the kernel takes.
  const top = 'x'.repeat(249)
  const directory = `${top}/`.repeat(16) + 'y'.repeat(80)
  const path = `${directory}/${'z'.repeat(15)}`
  t.equal(Buffer.byteLength(path), 4096)
  await files.upload({ [path]: 'hello' })
  t.match(await files.stat(path), { path, size: 5 })
  const read = async () => (await server.manager('GET', `/folders/${files.folder}/content/${path}`)).text()
  t.equal(await read(), 'hello')
  await files.upload({ [path]: 'hello again' })
  t.equal(await (await fetch(await server.sign(files.folder, path))).text(), 'hello again')
  t.equal((await files.ndjson('recursive=true')).at(-1), path)
  t.same(await files.keys(`path=${directory}`), [[path]])

  const other = `${directory}/${'o'.repeat(15)}`
  t.match(await files.post('copy', { from: path, to: other }), [201, { path: other, size: 11 }])
  t.match(await files.post('delete', { paths: [path] }), [200, { deleted: [path] }])
  t.match(await files.post('move', { from: other, to: path }), [200, { path, size: 11 }])
  t.match(await files.post('mkdir', { path: other }), [201, { type: 'directory' }])
  const archive = await fetch(await server.signArchive(files.folder, [], { archive: 'tar' }))
  t.match(await archive.text(), /hello again/)

  const { job, folder: copy } = await server.ask('POST', `/folders/${files.folder}/clone`, {})
  t.match(await ended(server, job.id), { state: 'succeeded' })
  t.match(await new Files(server, copy.id, '').stat(path), { path, size: 11 })
  const synced = await server.ask('POST', `/folders/${copy.id}/sync`)
  t.match(await ended(server, synced.job.id), { state: 'succeeded' })
  t.match(await files.post('delete', { paths: [top], recursive: true }), [200, { deleted: [top] }])
  t.match(await files.usage(), { files: 0, bytes: 0 })
  const removed = await server.ask('DELETE', `/folders/${copy.id}`)
  t.match(await ended(server, removed.job.id), { state: 'succeeded' })
  t.same([await readdir(files.mount), await server.staged(), await server.openFiles()], [[], [], []])
})
