import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import type { HttpRequest, UploadOptions } from 'tus-js-client'
import { startForClients } from '../backend-ai-clients.ts'
import { needing } from '../tools.ts'
import { assertNothingLeft, patch, sha256, tus, upload } from '../tus.ts'

const run = promisify(execFile)
const python = '/usr/bin/python3'
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
