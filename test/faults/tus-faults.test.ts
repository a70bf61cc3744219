import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { readDatabase } from '../database.ts'
import { eventually, type Server, startServer } from '../server.ts'
import { startOnSmallVolume } from '../small-volume.ts'
import { needing } from '../tools.ts'
import { assertNothingLeft, chunkType, create, patch, sha256, signTus, startPatch, tus } from '../tus.ts'

const mebibyte = 1024 * 1024

t.test('a second request makes the first one let go', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const location = await create(await signTus(files, 'a'), 1_000_000)
  const content = randomBytes(1_000_000)
  const { socket, answer } = startPatch(location, 0, content.length)
  socket.write(content.subarray(0, 300_000))
  await sleep(300)
  const offset = Number((await tus('HEAD', location)).offset)
  t.equal(offset, 300_000, 'and what it has is not lost')
  t.match(await answer, /^HTTP\/1.1 409[\s\S]*upload_interrupted/)
  t.match(await patch(location, offset, content.subarray(offset)), { status: 204, offset: '1000000' })
  t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
  socket.destroy()
  await assertNothingLeft(t, server, files.folder)
})

t.test('a refused request is told so, and cut soon when it goes on sending', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const location = await create(await signTus(files, 'a'), 1e8)
  const { socket, answer } = startPatch(location, 5, 1e8)
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const begun = performance.now()
  const sending = setInterval(() => socket.write(new Uint8Array(10_000)), 10)
  t.match(await answer, /^HTTP\/1.1 409[\s\S]*upload_offset_mismatch/)
  await closed
  clearInterval(sending)
  t.ok(performance.now() - begun < 15_000)
  t.match(await tus('HEAD', location), { status: 200, offset: '0' })
})

t.test('a vfolder that is deleted takes its uploads with it', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const url = await signTus(files, 'a')
  const idle = await create(url, 10)
  await patch(idle, 0, 'hello')
  const busy = await create(url, 1_000_000)
  const { socket, answer } = startPatch(busy, 0, 1_000_000)
  socket.write(randomBytes(300_000))
  await eventually(async () => (await server.openFiles()).length > 0)

  await server.ask('DELETE', `/folders/${files.folder}`)
  t.match(await answer, /^HTTP\/1.1 (404|409)[\s\S]*"code":"(upload_interrupted|upload_not_found|vfolder_not_found)"/)
  socket.destroy()
  for (const upload of [idle, busy]) {
    await eventually(async () => (await patch(upload, 5, 'world')).status === 404)
    t.match(await tus('HEAD', upload), { status: 404 })
  }
  t.match(await tus('POST', url, { 'upload-length': '10' }), { status: 404, code: 'vfolder_not_found' })
  await eventually(async () => (await readdir(join(server.dataDir, 'volumes/default/uploads'))).length === 0)
  await eventually(async () => (await server.openFiles()).length === 0)
})

t.test('a volume that is full', needing('mount', 'unshare', 'mounts of its own'), async (t) => {
  const { server, root } = await startOnSmallVolume(t, 12)
  const files = await server.files()
  const url = await signTus(files, 'a')
  const full = { status: 507, code: 'no_space' }
  const fill = (bytes: number) => files.upload({ filler: new Uint8Array(bytes) })
  const content = randomBytes(4 * mebibyte)
  const half = content.length / 2

  await t.test('in the middle of a PATCH: it goes on after what fitted, once there is room', async (t) => {
    const location = await create(url, content.length)
    await fill(9 * mebibyte)
    t.match(await patch(location, 0, content), full)
    const { offset } = await tus('HEAD', location)
    t.ok(Number(offset) >= half && Number(offset) < content.length, `${offset} bytes fitted`)
    await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['filler'] })
    const rest = content.subarray(Number(offset))
    t.match(await patch(location, Number(offset), rest), { status: 204, offset: `${content.length}` })
    t.match(await server.logged(({ msg }) => msg === 'upload completed'), { sha256: sha256(content) })
  })

  await t.test('in the middle of a PATCH that counts as a whole: it gives its room back', async (t) => {
    const location = await create(url, content.length)
    await fill(5 * mebibyte)
    const checksum = `sha256 ${Buffer.from(sha256(content), 'hex').toString('base64')}`
    t.match(await patch(location, 0, content, { 'upload-checksum': checksum }), full)
    t.match(await tus('HEAD', location), { status: 200, offset: '0' })
    await files.upload({ another: new Uint8Array(2 * mebibyte) })
    await tus('DELETE', location)
    await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['filler', 'another'] })
  })

  await t.test('in the middle of a concatenation: the parts are as they were', async (t) => {
    await fill(2 * mebibyte)
    const parts = []
    for (const part of [content.subarray(0, half), content.subarray(half)]) {
      const location = await create(url, part.length, { 'upload-concat': 'partial' })
      t.match(await patch(location, 0, part), { status: 204 })
      parts.push(location)
    }
    const concat = { 'upload-concat': `final;${parts.join(' ')}` }
    t.match(await tus('POST', url, concat), full)
    t.equal((await readdir(join(root, 'uploads'))).length, parts.length, 'what was copied is freed')
    for (const part of parts) t.match(await tus('HEAD', part), { status: 200, offset: `${half}` })
    await server.ask('POST', `/folders/${files.folder}/files/delete`, { paths: ['filler', 'a'] })
    t.match(await tus('POST', url, concat), { status: 201, offset: `${content.length}` })
    const response = await server.manager('GET', `/folders/${files.folder}/content/a`)
    t.equal(sha256(new Uint8Array(await response.arrayBuffer())), sha256(content))
  })
  t.same(await readdir(join(root, 'uploads')), [])
  t.same(await files.usage(), { files: 1, bytes: content.length })
})

t.test('a body in chunks that goes over the declared length', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const content = randomBytes(3 * mebibyte)
  const location = await create(await signTus(files, 'a'), content.length)
  const pieces = [content, content.subarray(0, mebibyte)]
  const response = await fetch(location, {
    method: 'PATCH',
    headers: { 'tus-resumable': '1.0.0', ...chunkType, 'upload-offset': '0' },
    body: new ReadableStream({
      pull(controller) {
        const piece = pieces.shift()
        if (piece === undefined) controller.close()
        else controller.enqueue(piece)
      },
    }),
    duplex: 'half',
  })
  t.match([response.status, await response.json()], [413, { code: 'file_too_large', maxBytes: content.length }])
  t.match(await tus('HEAD', location), { status: 200, offset: '0' }, 'what came before is not taken for the file')
  t.equal(await stagedBytes(server), 0, 'and takes up no room')
  t.same(await readdir(files.mount), [])
  await tus('DELETE', location)
  await assertNothingLeft(t, server, files.folder)
})

t.test('a checksum whose request breaks', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const content = randomBytes(1_000_000)
  const location = await create(await signTus(files, 'a'), content.length)
  const checksum = { 'upload-checksum': `sha256 ${Buffer.from(sha256(content), 'hex').toString('base64')}` }
  const { socket } = startPatch(location, 0, content.length, checksum)
  socket.write(content.subarray(0, 900_000))
  await eventually(async () => (await server.openFiles()).length > 0)
  socket.resetAndDestroy()
  await server.logged(({ msg }) => msg === 'request aborted')
  t.match(await tus('HEAD', location), { status: 200, offset: '0' }, 'what was not verified does not count')
  t.match(await patch(location, 0, content, checksum), { status: 204, offset: `${content.length}` })
  t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
  await assertNothingLeft(t, server, files.folder)
})

t.test('a creation whose body fails leaves nothing: nobody has its URL', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  await server.ask('PATCH', `/folders/${files.folder}`, { quota: { bytes: 1_000_000 } })
  const url = await signTus(files, 'a')
  const whole = { 'upload-length': '1000000' }
  for (const kind of [{}, { 'upload-concat': 'partial' }]) {
    const gone = new AbortController()
    const body = new ReadableStream({ start: (controller) => controller.enqueue(randomBytes(300_000)) })
    const headers = { 'tus-resumable': '1.0.0', ...chunkType, ...whole, ...kind }
    const sent = fetch(url, { method: 'POST', headers, body, duplex: 'half', signal: gone.signal })
    await eventually(async () => (await server.openFiles()).length > 0)
    gone.abort()
    await t.rejects(sent)
    const next = await eventually(async () => {
      const answer = await tus('POST', url, whole)
      return answer.status === 201 && answer
    }, 5000)
    await tus('DELETE', next.headers.get('location')!)
  }
  const refused = await tus('POST', url, { ...whole, ...chunkType, 'upload-checksum': 'sha1 AAAA' }, 'x')
  t.match(refused, { status: 460 })
  t.equal(refused.headers.get('location'), null)
  await assertNothingLeft(t, server, files.folder)
})

t.test('what has expired and is not removed yet', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_TTL_SECONDS: '1' } })
  const files = await server.files()
  const url = await signTus(files, 'a')
  const location = await create(url, 5, { 'upload-concat': 'partial' })
  await patch(location, 0, 'hello')
  await eventually(async () => (await tus('HEAD', location)).status !== 200)
  const expired = { status: 410, code: 'upload_expired' }
  for (const method of ['HEAD', 'DELETE']) t.equal((await tus(method, location)).status, 410, method)
  t.match(await patch(location, 5, 'x'), expired)
  t.match(await tus('POST', url, { 'upload-concat': `final;${location}` }), expired)
})

t.test('what moves does not expire, whatever of it counts', async (t) => {
  const env = { UPLOAD_TTL_SECONDS: '2', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  const server = await startServer(t, { env })
  const files = await server.files()
  // Neither have durable bytes before their end, and those with a checksum count only as a whole.
  const checksum = { 'upload-checksum': `sha1 ${randomBytes(20).toString('base64')}` }
  for (const headers of [{}, checksum]) {
    const location = await create(await signTus(files, 'a'), 1000)
    const { socket, answer } = startPatch(location, 0, 1000, headers)
    t.teardown(() => socket.destroy())
    for (let sent = 0; sent < 20; sent++) {
      socket.write('x')
      await sleep(200)
    }
    t.match(await tus('HEAD', location), { status: 200, offset: headers === checksum ? '0' : '20' })
    t.match(await answer, /^HTTP\/1.1 409[\s\S]*upload_interrupted/)
    t.match(await tus('HEAD', location), { status: 200 })
  }
})

t.test('what moved until a crash has not expired', async (t) => {
  const env = { UPLOAD_TTL_SECONDS: '10', LEASE_SECONDS: '1' }
  const server = await startServer(t, { env })
  const files = await server.files()
  const location = await create(await signTus(files, 'a'), 1000)
  const { socket } = startPatch(location, 0, 1000)
  for (let sent = 0; sent < 55; sent++) {
    socket.write('x')
    await sleep(200)
  }
  await server.end('SIGKILL')
  socket.destroy()
  const next = await startServer(t, { dataDir: server.dataDir, env })
  const resumed = location.replace(server.url, next.url)
  const { status, offset } = await tus('HEAD', resumed)
  t.equal(status, 200)
  t.match(await patch(resumed, Number(offset), 'y'), { status: 204 })
})

t.test('bytes whose checksum is wrong take up no room', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const content = randomBytes(3 * mebibyte)
  const location = await create(await signTus(files, 'a'), content.length)
  const checksum = `sha1 ${randomBytes(20).toString('base64')}`
  t.match(await patch(location, 0, content, { 'upload-checksum': checksum }), { status: 460 })
  t.equal(await stagedBytes(server), 0)
  t.match(await patch(location, 0, content), { status: 204 })
  t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
})

t.test('kill -9 in the middle of one long PATCH takes only its end', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const content = randomBytes(160 * mebibyte)
  const location = await create(await signTus(files, 'a'), content.length)
  const { socket } = startPatch(location, 0, content.length)
  socket.write(content.subarray(0, 120 * mebibyte))
  const reached = 'SELECT "offset" FROM uploads'
  await eventually(async () => Number((await readDatabase(server.dataDir, reached))[0].offset) > 0)
  await server.end('SIGKILL')
  socket.destroy()
  const next = await startServer(t, { dataDir: server.dataDir, env: { LEASE_SECONDS: '1' } })
  const resumed = location.replace(server.url, next.url)
  const offset = Number((await tus('HEAD', resumed)).offset)
  t.ok(offset >= 32 * mebibyte && offset <= 120 * mebibyte, `${offset} bytes are there`)
  t.match(await patch(resumed, offset, content.subarray(offset)), { status: 204, offset: `${content.length}` })
  t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
  await assertNothingLeft(t, next, files.folder)
})

/** How much of the volume uploads take up. */
async function stagedBytes({ dataDir }: Server): Promise<number> {
  const uploads = join(dataDir, 'volumes/default/uploads')
  const sizes = (await readdir(uploads)).map(async (name) => (await stat(join(uploads, name))).size)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}
