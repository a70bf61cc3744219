import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { eventually, type Files, type Server, startServer, temporaryDirectory } from '../server.ts'
import { assertNothingLeft, create, patch, sha256, signTus, type TusAnswer, tus, upload } from '../tus.ts'

const partBytes = 32_000_000
const contents = Array.from({ length: 3 }, () => randomBytes(partBytes))
const total = contents.length * partBytes
const digest = sha256(Buffer.concat(contents))

async function createPart(url: string, content: string | Uint8Array): Promise<string> {
  const location = await create(url, content.length, { 'upload-concat': 'partial' })
  if (content.length > 0) await patch(location, 0, content)
  return location
}

function final(url: string, parts: string[]): Promise<TusAnswer> {
  return tus('POST', url, { 'upload-concat': `final;${parts.join(' ')}` })
}

/** The files in which a volume keeps the bytes of uploads, with their sizes. */
async function stored(server: Server): Promise<Map<string, number>> {
  const directory = join(server.dataDir, 'volumes/default/uploads')
  const names = await readdir(directory)
  const sizes = names.map(async (name): Promise<[string, number]> => {
    const stats = await stat(join(directory, name)).catch(() => undefined)
    return [name, stats?.size ?? 0]
  })
  return new Map(await Promise.all(sizes))
}

const server = await startServer(t)

t.test('of parts', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const url = await signTus(files, 'some/place/file.txt')
  const file = join(files.mount, 'some/place/file.txt')
  const parts = [await createPart(url, 'hello '), await createPart(url, 'new '), await createPart(url, 'world')]
  for (const part of parts) t.equal((await tus('HEAD', part)).headers.get('upload-concat'), 'partial')
  const unfinished = await create(url, 3, { 'upload-concat': 'partial' })
  const elsewhere = await signTus(await server.files(), 'file.txt')
  const urls = [parts[0]!, parts[1]!.slice(server.url.length), parts[2]!]

  await t.test('what is refused', async (t) => {
    const small = await signTus(files, 'some/place/file.txt', { maxBytes: 14 })
    const whole = await create(url, 0)
    const refusals: [status: number, url: string, concat: string][] = [
      [409, url, `final;${urls.join(' ')} ${unfinished}`],
      [404, url, `final;${urls.join(' ')}x`],
      [404, url, `final;${whole}`],
      [401, url, `final;${urls[0]!.split('?')[0]}`],
      [400, url, `final;${parts[0]} ${parts[0]}`],
      [400, url, 'final;'],
      [400, url, 'final;/elsewhere'],
      [400, url, 'whatever'],
      [404, elsewhere, `final;${urls.join(' ')}`],
      [413, small, `final;${urls.join(' ')}`],
    ]
    for (const [status, to, concat] of refusals) {
      t.equal((await tus('POST', to, { 'upload-concat': concat })).status, status, `${status} ${concat.slice(0, 30)}`)
    }
  })

  await t.test('one file', async (t) => {
    const answer = await final(url, urls)
    t.match(answer, { status: 201, offset: '15' })
    t.equal(await readFile(file, 'utf8'), 'hello new world')
    const location = answer.headers.get('location')!
    const head = await tus('HEAD', location)
    t.equal(head.headers.get('upload-concat'), `final;${urls.join(' ')}`)
    t.equal(head.headers.get('upload-length'), '15')
    t.match(await patch(location, 15, 'x'), { status: 403, code: 'upload_finished' })
    for (const part of parts) t.match(await patch(part, 5, 'x'), { status: 403, code: 'upload_finished' })
    t.same([...(await stored(server)).values()], [0], 'the bytes of the parts are freed')
  })

  await t.test('the same request again', async (t) => {
    const before = await stat(file)
    const [one, two] = await Promise.all([final(url, urls), final(url, urls)])
    for (const answer of [one, two]) t.match(answer, { status: 201, offset: '15' })
    t.match(await stat(file), { ino: before.ino, mtimeMs: before.mtimeMs }, 'the file is not made again')
    t.match(await files.usage(), { files: 1, bytes: 15 })
    for (const others of [parts.toReversed(), parts.slice(1), [...parts, await createPart(url, 'x')]]) {
      t.match(await final(url, others), { status: 403, code: 'upload_finished' }, 'but not another one of these parts')
    }
    t.match(await final(await signTus(files, 'other.txt'), urls), { status: 403 }, 'nor to another place')
  })

  await t.test('what of a part was discarded stays out', async (t) => {
    const started = await tus('POST', url, { 'upload-defer-length': '1', 'upload-concat': 'partial' })
    const part = started.headers.get('location')!
    t.match(await patch(part, 0, 'good '), { status: 204 })
    t.match(await patch(part, 5, 'bad', { 'upload-checksum': 'sha1 AAAA' }), { status: 460 })
    t.match(await patch(part, 5, '', { 'upload-length': '5' }), { status: 204 })
    t.match(await final(url, [part, await createPart(url, 'end')]), { status: 201, offset: '8' })
    t.equal(await readFile(file, 'utf8'), 'good end')
  })

  await t.test('parts without bytes', async (t) => {
    const empty = [await createPart(url, ''), await createPart(url, '')]
    t.match(await final(url, empty), { status: 201, offset: '0' })
    t.equal(await readFile(file, 'utf8'), '')
  })
  t.equal(await server.end(), 0)
})

t.test('a refusal leaves the parts as they were', async (t) => {
  const files = await server.files()
  const url = await signTus(files, 'a')
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 1000, files: 1 } })
  const parts = [await createPart(url, new Uint8Array(500)), await createPart(url, new Uint8Array(500))]
  await files.upload({ b: '' })
  t.match(await final(url, parts), { status: 507, code: 'quota_exceeded' })
  for (const part of parts) t.match(await tus('HEAD', part), { status: 200, offset: '500' })
  t.match(
    await tus('POST', url, { 'upload-length': '1', 'upload-concat': 'partial' }),
    { status: 507 },
    'nor their room',
  )
  await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['b'] })
  t.match(await final(url, parts), { status: 201, offset: '1000' })
  t.same(await files.usage(), { files: 1, bytes: 1000 })
})

t.test('tus-js-client with parallel uploads', async (t) => {
  const files = await server.files()
  const content = randomBytes(9_000_000)
  await upload(content, { endpoint: await signTus(files, 'a'), parallelUploads: 3 })
  t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
  t.same(await files.usage(), { files: 1, bytes: content.length })
})

/** Three large parts in a vfolder that has room for one file of them and for no more. */
async function createLarge(server: Server): Promise<{ files: Files; url: string; parts: string[] }> {
  const files = await server.files()
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: total, files: 1 } })
  const url = await signTus(files, 'large')
  const parts = []
  for (const content of contents) parts.push(await createPart(url, content))
  return { files, url, parts }
}

/** Waits until so many bytes of the final upload are written, or it has become a file already. */
function written(server: Server, { mount }: Files, bytes: number): Promise<unknown> {
  return eventually(async () => {
    const sizes = [...(await stored(server)).values()]
    const names = await readdir(mount)
    return sizes.reduce((sum, size) => sum + size, 0) >= total + bytes || names.includes('large')
  }, 30_000)
}

async function assertWhole(t: Test, { files, server }: { files: Files; server: Server }): Promise<void> {
  t.equal(sha256(await readFile(join(files.mount, 'large'))), digest)
  const { usage } = await server.ask('GET', `/folders/${files.folder}`)
  t.match(usage, { files: 1, bytes: total })
  await assertNothingLeft(t, server, files.folder)
}

t.test('kill -9 at any point, and the same request again', { timeout: 240_000 }, async (t) => {
  const dataDir = await temporaryDirectory(t)
  const port = 20_000 + Math.floor(Math.random() * 10_000)
  const env = { PORT: `${port}`, LEASE_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  const start = () => startServer(t, { dataDir, env })
  let server = await start()
  const moments: [name: string, reached: (files: Files) => Promise<unknown>][] = [
    ['before the first byte', (files) => written(server, files, 0)],
    ['in the middle', (files) => written(server, files, total / 2)],
    ['when the file has appeared', ({ mount }) => eventually(() => stat(join(mount, 'large')).catch(() => undefined))],
  ]
  for (const [name, reached] of moments) {
    await t.test(name, async (t) => {
      const { files, url, parts } = await createLarge(server)
      const cut = final(url, parts).catch((error: unknown) => error)
      await reached(files)
      await server.end('SIGKILL')
      await cut
      server = await start()
      for (const part of parts) t.match(await tus('HEAD', part), { status: 200, offset: `${partBytes}` })
      t.match(await final(url, parts), { status: 201, offset: `${total}` })
      await assertWhole(t, { files, server })
    })
  }
})

t.test('kill -9, and no request again', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1', UPLOAD_TTL_SECONDS: '8' }
  const first = await startServer(t, { dataDir, env })
  const { files, url, parts } = await createLarge(first)
  const cut = final(url, parts).catch((error: unknown) => error)
  await written(first, files, 1)
  await first.end('SIGKILL')
  await cut
  const second = await startServer(t, { dataDir, env })
  await eventually(async () => (await stored(second)).size === 0)
  await assertNothingLeft(t, second, files.folder)
  t.same(await readdir(files.mount), [])
})

t.test('a client that goes away and asks again, of this process or of another', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const env = { IDLE_TIMEOUT_SECONDS: '1' }
  const [one, two] = [await startServer(t, { dataDir, env }), await startServer(t, { dataDir, env })]
  const { files, url, parts } = await createLarge(one)
  const client = new AbortController()
  const cut = fetch(url, {
    method: 'POST',
    headers: { 'tus-resumable': '1.0.0', 'upload-concat': `final;${parts.join(' ')}` },
    signal: client.signal,
  }).catch((error: Error) => error.name)
  await written(one, files, 1)
  // So that it takes longer than any connection may be idle.
  one.process.kill('SIGSTOP')
  client.abort()
  t.equal(await cut, 'AbortError')
  const again = [final(url, parts), final(url.replace(one.url, two.url), parts)]
  await sleep(2500)
  one.process.kill('SIGCONT')
  for (const answer of await Promise.all(again)) t.match(answer, { status: 201, offset: `${total}` })
  const lines = [...one.lines(), ...two.lines()].filter(({ msg }) => msg === 'upload completed')
  t.match(lines, [{ size: total, sha256: digest }], 'the file was made once')
  await assertWhole(t, { files, server: one })
})

t.test('a vfolder that is deleted in the middle', async (t) => {
  const { files, url, parts } = await createLarge(server)
  const answer = final(url, parts)
  await written(server, files, 1)
  await server.ask('DELETE', `/folders/${files.folder}`)
  t.match(String((await answer).status), /^(404|409)$/)
  await eventually(async () => (await stored(server)).size === 0 && (await server.openFiles()).length === 0)
  for (const part of parts) t.equal((await tus('HEAD', part)).status, 404)
})
