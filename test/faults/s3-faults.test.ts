import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { digest, inChunks, MiB, patternBytes } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { s3Volume } from '../ceph/index.ts'
import { type Fault, onceEach, startFaultyProxy } from '../faulty-proxy.ts'
import { call, contentOf, openS3, paths, startBackendThrough } from '../s3.ts'
import { type Answer, eventually, managerToken, startServer } from '../server.ts'
import { chunkType, create, signTus, tus } from '../tus.ts'

const kinds: Fault[] = ['reset', 'lost-answer', 'slow-down', 'internal-error', 'late', 'cut']

for (const kind of ['lost-answer', 'all in turn'] as const) {
  t.test(`nothing is lost and nothing doubled when each command meets a fault: ${kind}`, async (t) => {
    const { options, open } = await openS3()
    const whole = await open()
    t.teardown(() => whole.close())
    const proxy = await startFaultyProxy(t, options.endpoint!)
    const { open: openThrough } = await openS3({ ...options, endpoint: proxy.url })
    const backend = await openThrough()
    t.teardown(() => backend.close())
    proxy.fault = onceEach(kind === 'all in turn' ? kinds : [kind])

    const folder = randomUUID()
    await backend.createFolder(folder, call)
    const large = patternBytes(12 * MiB)
    const small = Buffer.from('content')
    await backend.write(folder, parsePath('a/large'), inChunks(large), call)
    const first = await backend.write(folder, parsePath('a/small'), inChunks(small), { ...call, ifAbsent: true })
    t.equal(first.replaced, undefined, 'what was lost was only the answer')
    await t.rejects(backend.write(folder, parsePath('a/small'), inChunks(large), { ...call, ifAbsent: true }), {
      code: 'entry_exists',
    })
    await backend.write(folder, parsePath('a/large once'), inChunks(large), { ...call, ifAbsent: true })

    const upload = randomUUID()
    await backend.beginUpload(folder, upload, call)
    await backend.appendUpload(folder, upload, inChunks(large.subarray(0, 9 * MiB)), { ...call, offset: 0 })
    await backend.appendUpload(folder, upload, inChunks(large.subarray(9 * MiB)), { ...call, offset: 9 * MiB })
    const completed = await backend.completeUpload(folder, upload, parsePath('uploaded'), {
      ...call,
      size: large.length,
    })
    t.equal(completed.replaced, undefined)

    await backend.move(folder, parsePath('a'), parsePath('b'), call)
    await backend.copy!(folder, parsePath('b/large'), parsePath('copied'), { ...call })
    const copy = randomUUID()
    await backend.createFolder(copy, call)
    const cloned = await backend.clone!(folder, copy, { ...call, onProgress: () => {}, onCheckpoint: () => {} })
    t.match(cloned, { files: 5, bytes: 4 * large.length + small.length, changedCount: 0 })
    await backend.remove(folder, parsePath('copied'), call)

    const content = { 'b/large': large, 'b/large once': large, 'b/small': small, uploaded: large }
    for (const reader of [backend, whole]) {
      t.same(await paths(reader, folder), Object.keys(content))
      t.same(await paths(reader, copy), ['b/large', 'b/large once', 'b/small', 'copied', 'uploaded'])
      for (const [path, bytes] of Object.entries(content))
        t.equal(digest(await contentOf(reader, folder, path)), digest(bytes))
    }
    t.ok(proxy.struck[kind === 'all in turn' ? 'reset' : kind] > 10, 'the faults did strike')
    t.same(await whole.collectGarbage({ ...call, idleSeconds: 3600 }), { files: 0, bytes: 0 })
  })
}

t.test('a storage that goes on failing is told of clearly, and what was there stays', async (t) => {
  const { options, open } = await openS3()
  const whole = await open()
  t.teardown(() => whole.close())
  const proxy = await startFaultyProxy(t, options.endpoint!)
  const { open: openThrough } = await openS3({ ...options, endpoint: proxy.url, maxAttempts: 2 })
  const folder = randomUUID()
  await whole.createFolder(folder, call)
  await whole.write(folder, parsePath('file'), inChunks(Buffer.from('old')), call)
  for (const kind of ['reset', 'slow-down', 'internal-error', 'lost-answer'] as const) {
    const backend = await openThrough()
    t.teardown(() => backend.close())
    proxy.fault = ({ method }) => (method === 'PUT' || method === 'POST' ? kind : undefined)
    for (const bytes of [Buffer.from('new'), patternBytes(9 * MiB)]) {
      const written = backend.write(folder, parsePath('new'), inChunks(bytes), call)
      // The parts of the large one are lost.
      if (kind === 'lost-answer' && bytes.length === 3) t.match(await written, { entry: { size: 3 } }, 'it is there')
      else await t.rejects(written, { code: 'storage_unavailable' }, kind)
    }
    proxy.fault = ({ method, url }) => (method === 'GET' && !url?.includes('list-type') ? kind : undefined)
    const file = await backend.read(folder, parsePath('file'), call)
    await t.rejects(
      async () => {
        for await (const _ of file.chunks({ start: 0, end: 3 }));
      },
      { code: 'storage_unavailable' },
    )
  }
  t.equal(String(await contentOf(whole, folder, 'file')), 'old')
})

t.test('a file that was stored is not told of as lost because its lock could not be removed', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t, { maxAttempts: 1 })
  proxy.fault = ({ method, url }) => (method === 'DELETE' && url?.includes('/locks/') ? 'reset' : undefined)
  const bytes = patternBytes(9 * MiB)
  await backend.write(folder, parsePath('file'), inChunks(bytes), { ...call, ifAbsent: true })
  t.equal(digest(await contentOf(backend, folder, 'file')), digest(bytes))
})

t.test('a lock that was made without an answer does not keep the next writer waiting', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t, { maxAttempts: 1 })
  const write = () =>
    backend.write(folder, parsePath('file'), inChunks(patternBytes(9 * MiB)), { ...call, ifAbsent: true })
  proxy.fault = ({ method, url }) => (method === 'PUT' && url?.includes('/locks/') ? 'lost-answer' : undefined)
  await t.rejects(write(), { code: 'storage_unavailable' })
  t.equal(proxy.struck['lost-answer'], 1)
  proxy.fault = () => undefined
  const begun = performance.now()
  await write()
  t.ok(performance.now() - begun < 15_000, 'it waits 30 seconds for a lock that is held')
})

t.test('a storage that has much to do is well', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t, { commandsAtOnce: 1 })
  proxy.fault = ({ method }) => (method === 'PUT' ? 'silence' : undefined)
  const aborted = new AbortController()
  const writing = backend.write(folder, parsePath('file'), inChunks(Buffer.from('bytes')), { signal: aborted.signal })
  writing.catch(() => {})
  await eventually(async () => proxy.struck.silence > 0)
  await backend.health({ signal: AbortSignal.timeout(10_000) })
  aborted.abort(new Error('enough'))
  await t.rejects(writing, { message: 'enough' })
})

/** A service with a vfolder on a storage behind the proxy. */
async function startThrough(t: { teardown(fn: () => unknown): void }) {
  const volume = await s3Volume()
  const proxy = await startFaultyProxy(t, volume.endpoint)
  const VOLUMES = JSON.stringify({ default: { ...volume, endpoint: proxy.url } })
  const server = await startServer(t, { env: { VOLUMES } })
  return { proxy, server, folder: await server.createFolder() }
}

t.test('a small file that comes in drops is given out as it is', async (t) => {
  const { proxy, server, folder } = await startThrough(t)
  const bytes = patternBytes(40_000)
  await server.upload(folder, { file: new Uint8Array(bytes) })
  proxy.fault = ({ method, url }) => (method === 'GET' && !url?.includes('list-type') ? 'drops' : undefined)
  const url = await server.sign(folder, 'file')
  t.ok(bytes.equals(Buffer.from(await (await fetch(url)).arrayBuffer())))
  const part = await fetch(url, { headers: { range: 'bytes=100-30000' } })
  t.ok(bytes.subarray(100, 30_001).equals(Buffer.from(await part.arrayBuffer())))
  t.equal(proxy.struck.drops, 2)
})

t.test('a storage that says nothing is away too, once the health was asked for', async (t) => {
  const { proxy, server, folder } = await startThrough(t)
  proxy.fault = () => 'silence'
  const ready = () => fetch(`${server.managerUrl}/readyz`)
  await Promise.all(Array.from({ length: 5 }, ready))
  t.match(await server.logged(({ msg }) => msg === 'the storage is away'), { reason: /does not answer in time/ })
  const answers = await Promise.all([1, 2, 3].map(() => server.manager('GET', `/folders/${folder}/files`)))
  for (const answer of answers) t.match(await answer.json(), { code: 'storage_unavailable' })
  proxy.fault = () => undefined
  await eventually(async () => (await ready()).status === 200)
})

t.test('while the storage is away the service says so at once, and it recovers by itself', async (t) => {
  const volume = await s3Volume()
  const proxy = await startFaultyProxy(t, volume.endpoint)
  const VOLUMES = JSON.stringify({ default: { ...volume, endpoint: proxy.url, maxAttempts: 2 } })
  const server = await startServer(t, { env: { VOLUMES } })
  const folder = await server.createFolder()
  await server.upload(folder, { file: 'content' })
  const ready = async () => {
    const response = await fetch(`${server.managerUrl}/readyz`)
    const { checks } = (await response.json()) as Answer
    return { status: response.status, volume: checks.find(({ name }: Answer) => name === 'volume:default') }
  }
  await eventually(async () => (await ready()).status === 200)

  proxy.fault = () => 'reset'
  const stat = () => server.manager('GET', `/folders/${folder}/files/stat?path=file`)
  for (let call = 0; call < 5; call++) await stat()
  await server.logged(({ msg }) => msg === 'the storage is away')
  const started = performance.now()
  const refused = await stat()
  t.ok(performance.now() - started < 3000, 'at once')
  t.equal(refused.status, 503)
  t.match(await refused.json(), { code: 'storage_unavailable', detail: /the storage is away: .*ECONNRESET/ })
  t.match(await ready(), { status: 503, volume: { healthy: false, reason: /ECONNRESET/ } })
  const live = await fetch(`${server.managerUrl}/livez`)
  t.equal(live.status, 200)

  proxy.fault = () => undefined
  await eventually(async () => (await ready()).status === 200)
  t.equal((await stat()).status, 200)
  await server.logged(({ msg }) => msg === 'the storage is back')
})

t.test('an empty listing is a sign of life', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t, { maxAttempts: 1 })
  const list = async () => {
    for await (const _ of backend.list(folder, call));
  }
  proxy.fault = () => 'reset'
  for (let failure = 0; failure < 5; failure++) await t.rejects(list(), { code: 'storage_unavailable' })
  proxy.fault = () => undefined
  await t.rejects(list(), { message: /the storage is away/ })
  await sleep(5100)
  await list()
  await list()
  t.equal(proxy.struck.reset, 5)
})

t.test('a client gets all the bytes, though bodies break off', async (t) => {
  const volume = await s3Volume()
  const proxy = await startFaultyProxy(t, volume.endpoint)
  const VOLUMES = JSON.stringify({ default: { ...volume, endpoint: proxy.url } })
  const server = await startServer(t, { env: { VOLUMES } })
  const folder = await server.createFolder()
  const bytes = patternBytes(20 * MiB)
  await server.upload(folder, { file: new Uint8Array(bytes) })
  proxy.fault = onceEach(kinds)
  const downloaded = Buffer.from(await (await fetch(await server.sign(folder, 'file'))).arrayBuffer())
  t.equal(digest(downloaded), digest(bytes))
  const authorization = `Bearer ${managerToken}`
  const range = { authorization, range: 'bytes=1000000-9999999' }
  const part = await fetch(`${server.managerUrl}/folders/${folder}/content/file`, { headers: range })
  t.equal(part.status, 206)
  t.equal(digest(Buffer.from(await part.arrayBuffer())), digest(bytes.subarray(1_000_000, 10_000_000)))
})

t.test('an upload whose parts the storage has lost is not told of as stored', async (t) => {
  const { proxy, server, folder } = await startThrough(t)
  const old = Buffer.alloc(9 * MiB, 'A')
  const bytes = Buffer.alloc(9 * MiB, 'B')
  const store = async (content: Buffer) => {
    const upload = await create(await signTus({ server, folder }, 'file'), content.length)
    return { upload, answer: await tus('PATCH', upload, { ...chunkType, 'upload-offset': '0' }, content) }
  }
  const content = async () => digest(Buffer.from(await (await fetch(await server.sign(folder, 'file'))).arrayBuffer()))
  t.equal((await store(old)).answer.status, 204)
  const isCompletion = (url = '') => url.includes('uploadId=') && !url.includes('partNumber=')
  proxy.fault = ({ method, url }) => (method === 'POST' && isCompletion(url) ? 'no-such-upload' : undefined)
  const { upload, answer } = await store(bytes)
  t.match(answer, { status: 503, code: 'storage_unavailable' })
  t.ok(proxy.struck['no-such-upload'] > 0)
  t.equal(await content(), digest(old))
  proxy.fault = () => undefined
  t.equal((await tus('PATCH', upload, { ...chunkType, 'upload-offset': `${bytes.length}` }, '')).status, 204)
  t.equal(await content(), digest(bytes))
})

t.test('what the storage took of a PATCH before it failed counts', async (t) => {
  const volume = await s3Volume()
  const proxy = await startFaultyProxy(t, volume.endpoint)
  const through = { ...volume, endpoint: proxy.url, partBytes: 5 * MiB, maxAttempts: 1 }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify({ default: through }) } })
  const folder = await server.createFolder()
  const bytes = patternBytes(24 * MiB)
  const location = await create(await signTus({ server, folder }, 'file'), bytes.length)
  const patch = (offset: number) =>
    tus('PATCH', location, { ...chunkType, 'upload-offset': `${offset}` }, new Uint8Array(bytes.subarray(offset)))
  let segments = 0
  proxy.fault = ({ method, url }) =>
    method === 'PUT' && url?.includes('/uploads/') && ++segments > 3 ? 'internal-error' : undefined
  t.match(await patch(0), { status: 503 })
  proxy.fault = () => undefined
  const { offset } = await eventually(async () => {
    const answer = await tus('HEAD', location)
    return answer.status === 200 && answer
  })
  t.ok(
    [1, 2, 3].some((parts) => offset === `${parts * 5 * MiB}`),
    `${offset} bytes are there`,
  )
  const resumed = await eventually(async () => {
    const answer = await patch(Number(offset))
    return answer.status !== 503 && answer
  })
  t.match(resumed, { status: 204 })
  const stored = await fetch(await server.sign(folder, 'file'))
  t.equal(digest(Buffer.from(await stored.arrayBuffer())), digest(bytes))
})

t.test('the server may take longer to copy than a connection may be idle', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t, { idleTimeoutSeconds: 1, maxAttempts: 1 })
  const bytes = patternBytes(9 * MiB)
  const isWork = ({ method, headers, url = '' }: IncomingMessage) =>
    headers['x-amz-copy-source'] !== undefined || (method === 'POST' && url.includes('uploadId='))
  proxy.fault = (request) => (isWork(request) ? 'working' : undefined)
  await backend.write(folder, parsePath('file'), inChunks(bytes), call)
  await backend.copy!(folder, parsePath('file'), parsePath('copied'), call)
  await backend.copy!(folder, parsePath('file'), parsePath('copied again'), call)
  t.equal(proxy.struck.working, 3, 'nothing was sent twice')
  t.equal(digest(await contentOf(backend, folder, 'copied again')), digest(bytes))
})

t.test('bytes that are not what their checksum says are no file', async (t) => {
  const { proxy, server, folder } = await startThrough(t)
  const bytes = patternBytes(3 * MiB)
  await server.upload(folder, { file: new Uint8Array(bytes) })
  proxy.fault = ({ method, url }) => (method === 'GET' && !url?.includes('list-type') ? 'wrong-checksum' : undefined)
  const url = await server.sign(folder, 'file')
  await t.rejects(
    fetch(url).then((response) => response.arrayBuffer()),
    'the whole',
  )
  const part = await fetch(url, { headers: { range: 'bytes=1000000-1999999' } })
  t.ok(bytes.subarray(1_000_000, 2_000_000).equals(Buffer.from(await part.arrayBuffer())), 'a part has none')
})

t.test('an upload that the storage fails to put together is never told of as stored', async (t) => {
  const { proxy, server, folder } = await startThrough(t)
  const old = Buffer.alloc(9 * MiB, 'A')
  const bytes = Buffer.alloc(9 * MiB, 'B')
  await server.upload(folder, { file: new Uint8Array(old) })
  const upload = await create(await signTus({ server, folder }, 'file'), bytes.length)
  proxy.fault = ({ method, url }) => (method === 'POST' && url?.includes('uploadId=') ? 'internal-error' : undefined)
  const first = await tus('PATCH', upload, { ...chunkType, 'upload-offset': '0' }, bytes)
  t.match(first, { status: 503 }, 'when it was to be completed')
  proxy.fault = ({ headers }) => (headers['x-amz-copy-source'] === undefined ? undefined : 'no-such-upload')
  const again = () => tus('PATCH', upload, { ...chunkType, 'upload-offset': `${bytes.length}` }, '')
  t.match(await again(), { status: 503, code: 'storage_unavailable' }, 'and when its parts were to be copied')
  proxy.fault = () => undefined
  t.equal((await again()).status, 204)
  const stored = Buffer.from(await (await fetch(await server.sign(folder, 'file'))).arrayBuffer())
  t.equal(digest(stored), digest(bytes))
})
