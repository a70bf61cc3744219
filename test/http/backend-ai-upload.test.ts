import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import type { HttpRequest, UploadOptions } from 'tus-js-client'
import { startForClients } from '../backend-ai-clients.ts'
import { eventually } from '../server.ts'
import { needing } from '../tools.ts'
import { assertNothingLeft, patch, sha256, startPatch, tus, upload } from '../tus.ts'

const run = promisify(execFile)
const python = '/usr/bin/python3'
const sha1 = (text: string) => createHash('sha1').update(text).digest('base64')
const clients = fileURLToPath(new URL('../backend-ai-clients.py', import.meta.url))

/** As the web UI of Backend.AI sets its client up; but what it sends at once is smaller here. */
const webUi = (url: string): UploadOptions => ({
  endpoint: url,
  uploadUrl: url,
  chunkSize: 1_000_000,
  storeFingerprintForResuming: false,
  metadata: { filename: 'a', filetype: 'text/plain' },
})

t.test("uploads by Backend.AI's clients", async (t) => {
  const vfolder = await startForClients(t)
  const { server, folder, mount } = vfolder
  const names = () => readdir(mount, { recursive: true })

  await t.test('step by step', async (t) => {
    const url = vfolder.upload('a/hello.txt', 11, '&dst_dir=sub')
    const begun = await tus('HEAD', url)
    t.match(begun, { status: 200, offset: '0' })
    t.equal(begun.headers.get('upload-length'), '11')
    t.equal(begun.headers.get('cache-control'), 'no-store')
    t.match(await tus('PATCH', url, {}, 'x'), { status: 400 }, 'no offset')
    t.match(await patch(url, Number.NaN, 'x'), { status: 400 })
    t.match(await patch(url, 3, 'x'), { status: 409 })
    const first = await patch(url, 0, 'hello ')
    t.match(first, { status: 204, offset: '6' })
    t.equal(first.headers.get('upload-length'), '11')
    t.match(await tus('HEAD', url), { status: 200, offset: '6' })
    t.same(await names(), [], 'nothing is seen of it')
    t.match(await patch(url, 0, 'hello '), { status: 409 }, 'a chunk that came twice')
    t.match(await patch(url.replace('dst_dir=sub', 'dst_dir=other'), 6, 'world'), { status: 400 }, 'to another path')
    t.match(await patch(url, 6, 'world!'), { status: 413 }, 'more than was said')
    t.match(await patch(url, 6, 'world'), { status: 204, offset: '11' })
    t.equal(await readFile(join(mount, 'sub/a/hello.txt'), 'utf8'), 'hello world')
    t.match(await tus('HEAD', url), { status: 200, offset: '11' }, 'a client whose last answer was lost')
    t.match(await patch(url, 6, 'world'), { status: 409 })
    t.match(await patch(url, 11, ''), { status: 204, offset: '11' })
    const logged = server.lines().find(({ msg, path }) => msg === 'upload completed' && path === 'sub/a/hello.txt')
    t.match(logged, { folder, size: 11 })
  })

  await t.test('in one piece', async (t) => {
    const url = vfolder.upload('./one.txt', 3)
    t.match(await patch(url, 0, 'four'), { status: 413 })
    t.match(await patch(url, 0, 'one', { 'tus-resumable': '', 'content-type': 'text/plain' }), {
      status: 204,
      offset: '3',
    })
    t.equal(await readFile(join(mount, 'one.txt'), 'utf8'), 'one')
    t.match(await patch(url, 0, 'one'), { status: 409 })
    t.match(await tus('HEAD', url), { status: 200, offset: '3' })
  })

  await t.test('several at once, of which one is the file', async (t) => {
    for (const size of [1000, 65_537]) {
      const url = vfolder.upload(`at-once-${size}`, size)
      const bodies = ['a', 'b', 'c', 'd', 'e', 'f'].map((letter) => letter.repeat(size))
      const statuses = (await Promise.all(bodies.map((body) => patch(url, 0, body)))).map(({ status }) => status)
      t.same(statuses.toSorted(), [204, 409, 409, 409, 409, 409], `of ${size} bytes`)
      const stored = await readFile(join(mount, `at-once-${size}`), 'utf8')
      t.equal(stored, bodies[statuses.indexOf(204)], 'the one that was told so')
    }
  })

  await t.test('a small one that is refused or broken off can be sent again', async (t) => {
    const checked = vfolder.upload('checked', 3)
    t.match(await patch(checked, 0, 'one', { 'upload-checksum': `sha1 ${sha1('two')}` }), { status: 400 })
    t.match(await patch(checked, 0, 'one', { 'upload-checksum': `sha1 ${sha1('one')}` }), { status: 204, offset: '3' })
    const url = vfolder.upload('again', 3)
    const { socket, answer } = startPatch(url, 0, 3)
    socket.write('o')
    await setTimeout(200)
    t.match(await patch(url, 0, 'one'), { status: 204, offset: '3' }, 'the newest request has it')
    t.match(await answer, /^HTTP\/1.1 409/)
    socket.destroy()
    t.equal(await readFile(join(mount, 'again'), 'utf8'), 'one')
    const broken = startPatch(vfolder.upload('broken', 3), 0, 3)
    broken.socket.write('o')
    await setTimeout(100)
    broken.socket.destroy()
    await eventually(async () => (await server.ask('GET', `/folders/${folder}/uploads`)).uploads.length === 0)
  })

  await t.test('one that the manager has ended does not go on', async (t) => {
    const url = vfolder.upload('ended', 10)
    t.match(await patch(url, 0, 'hello'), { status: 204 })
    const { uploads } = await server.ask('GET', `/folders/${folder}/uploads`)
    t.match(uploads, [{ path: 'ended', offset: 5 }])
    await server.ask('DELETE', `/folders/${folder}/uploads/${uploads[0].id}`)
    for (const _ of [1, 2]) {
      t.match(await tus('HEAD', url), { status: 404 })
      t.match(await patch(url, 0, 'hello'), { status: 404 })
      t.match(await patch(url, 5, 'hello'), { status: 404 })
    }
    t.same((await server.ask('GET', `/folders/${folder}/uploads`)).uploads, [])
    t.equal((await server.manager('DELETE', `/folders/${folder}/uploads/${uploads[0].id}`)).status, 404)
  })

  await t.test('empty files', async (t) => {
    t.match(await tus('HEAD', vfolder.upload('empty-1', 0)), { status: 200, offset: '0' })
    const url = vfolder.upload('empty-2', 0)
    for (const _ of [1, 2]) t.match(await patch(url, 0, ''), { status: 204, offset: '0' })
    for (const name of ['empty-1', 'empty-2']) t.equal((await readFile(join(mount, name))).length, 0)
  })

  await t.test('what is refused', async (t) => {
    const before = await names()
    for (const [relpath, more] of [
      ['a', '&dst_dir=..'],
      ['../a', ''],
      ['/a', ''],
      ['a', '&dst_dir=/tmp'],
      ['.', ''],
    ]) {
      const url = vfolder.upload(relpath!, 1, more)
      t.match(await tus('HEAD', url), { status: 400 }, `${relpath} ${more}`)
      t.match(await patch(url, 0, 'a'), { status: 400 }, `${relpath} ${more}`)
    }
    const download = vfolder.download('one.txt').replace('download', 'upload')
    t.match(await patch(download, 0, 'a'), { status: 400 }, 'a token of another kind')
    t.match(await patch(vfolder.upload('a', 1, '', { exp: 1 }), 0, 'a'), { status: 400 })
    t.match(await patch(vfolder.upload('a', -1), 0, 'a'), { status: 400 })
    t.match(await patch(vfolder.upload('a', 1, '', { session: '../../x' }), 0, 'a'), { status: 400 })
    t.match(await patch(vfolder.upload('a', 1, '', { vfid: vfolder.vfid.replace(/.$/, 'x') }), 0, 'a'), { status: 400 })
    t.match(await patch(vfolder.upload('one.txt/a', 1), 0, 'a'), { status: 400 })
    await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: 1000, files: null } })
    t.match(await patch(vfolder.upload('large', 100_000), 0, 'a'), { status: 507 })
    await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: null, files: null } })
    t.same(await names(), before)
  })

  await t.test('tus-js-client as the web UI sets it up', async (t) => {
    const content = randomBytes(2_500_000)
    const url = vfolder.upload('from-ui', content.length)
    const methods: string[] = []
    const onBeforeRequest = (request: HttpRequest) => void methods.push(request.getMethod())
    await upload(content, { ...webUi(url), onBeforeRequest })
    t.same(methods.splice(0), ['HEAD', 'PATCH', 'PATCH', 'PATCH'])
    t.ok((await readFile(join(mount, 'from-ui'))).equals(content))
    await upload(content, { ...webUi(url), onBeforeRequest })
    t.same(methods.splice(0), ['HEAD'], 'whose last answer was lost')
    await upload(Buffer.alloc(0), { ...webUi(vfolder.upload('empty-ui', 0)), onBeforeRequest })
    t.same(methods, ['HEAD'])
    t.equal((await readFile(join(mount, 'empty-ui'))).length, 0)
  })

  await t.test('clients in Python', needing('python3-aiohttp', 'python3-tuspy'), async (t) => {
    // More than the SDK sends at once.
    const size = 17_000_000
    const urls = {
      tuspy: vfolder.upload('from-tuspy', size),
      sdk: vfolder.upload('from-sdk', size, '&dst_dir=dir'),
      download: vfolder.download('dir/from-sdk'),
    }
    const { stdout } = await run(python, [clients, JSON.stringify(urls), String(size)])
    const told = JSON.parse(stdout)
    const stored = await Promise.all(['from-tuspy', 'dir/from-sdk'].map((path) => readFile(join(mount, path))))
    t.same(stored.map(sha256), [told.sha256, told.sha256])
    t.match(told, { requests: ['PATCH 204 16777216', 'PATCH 204 17000000'], downloaded: told.sha256 })
    t.same(told.statuses, [200, 206], 'the download went on where it was broken off')
  })

  await assertNothingLeft(t, server, folder)
})

t.test('a token that outlives its upload stores its file once', async (t) => {
  const env = { UPLOAD_TTL_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  const vfolder = await startForClients(t, { env })
  const { server, folder, mount } = vfolder
  const large = 'l'.repeat(100_000)
  const urls = {
    empty: vfolder.upload('empty', 0),
    small: vfolder.upload('small', 3),
    large: vfolder.upload('large', large.length),
    ended: vfolder.upload('ended', 10),
  }
  t.match(await tus('HEAD', urls.empty), { status: 200, offset: '0' })
  t.match(await patch(urls.small, 0, 'old'), { status: 204 })
  t.match(await patch(urls.large, 0, large), { status: 204 })
  t.match(await patch(urls.ended, 0, 'hello'), { status: 204 })
  const { uploads } = await server.ask('GET', `/folders/${folder}/uploads`)
  await server.ask('DELETE', `/folders/${folder}/uploads/${uploads[0].id}`)
  const unfinished = vfolder.upload('unfinished', 10)
  t.match(await patch(unfinished, 0, 'hello'), { status: 204 })
  const names = ['empty', 'small', 'large']
  await server.upload(folder, Object.fromEntries(names.map((name) => [name, 'the work of a week'])))
  await server.logged(({ msg, path }) => msg === 'expired upload removed' && path === 'unfinished')

  t.match(await tus('HEAD', urls.empty), { status: 200, offset: '0' })
  t.match(await tus('HEAD', urls.small), { status: 200, offset: '3' })
  t.match(await patch(urls.empty, 0, ''), { status: 204 })
  t.match(await patch(urls.small, 0, 'old'), { status: 409 })
  t.match(await patch(urls.large, 0, large), { status: 409 })
  t.match(await patch(urls.ended, 0, 'hello'), { status: 404 })
  for (const name of names) t.equal(await readFile(join(mount, name), 'utf8'), 'the work of a week', name)
  t.match(await patch(unfinished, 0, 'hello'), { status: 204, offset: '5' }, 'one that made no file begins again')
})
