import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import {
  AbortMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import t from 'tap'
import type { Backend } from '../../backends/backend.ts'
import { digest, inChunks, MiB, patternBytes } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { startFaultyProxy } from '../faulty-proxy.ts'
import { call, openS3 } from '../s3.ts'
import { eventually } from '../server.ts'

const large = patternBytes(17 * MiB)
const nothing = { files: 0, bytes: 0 }

/** A backend on the storage itself, one through a proxy that can make it fail, and the bucket past both. */
async function start(t: { teardown(fn: () => unknown): void }, more: object = {}) {
  const { options, open } = await openS3(more)
  const proxy = await startFaultyProxy(t, options.endpoint!)
  const { open: openThrough } = await openS3({ ...options, endpoint: proxy.url, maxAttempts: 1 })
  const backends = { backend: await open(), failing: await openThrough() }
  const { accessKeyId, secretAccessKey, endpoint, region, prefix } = options
  const credentials = { accessKeyId: accessKeyId!, secretAccessKey: secretAccessKey! }
  const client = new S3Client({ endpoint: endpoint!, region, forcePathStyle: true, credentials })
  t.teardown(() => Promise.all(Object.values(backends).map((backend) => backend.close())))
  t.teardown(() => client.destroy())
  const folder = randomUUID()
  await backends.backend.createFolder(folder, call)
  const keyOf = (path: string) => `${prefix}/vfolders/${folder}/${path}`
  return { ...backends, proxy, folder, options, client, keyOf }
}

async function keys(backend: Backend, folder: string): Promise<string[]> {
  const found: string[] = []
  for await (const { path, type } of backend.list(folder, { ...call, recursive: true })) {
    found.push(type === 'directory' ? `${path}/` : path)
  }
  return found
}

async function bytesOf(backend: Backend, folder: string, path: string): Promise<Buffer> {
  const { entry, chunks } = await backend.read(folder, parsePath(path), call)
  const read: Buffer[] = []
  for await (const chunk of chunks({ start: 0, end: entry.size })) read.push(Buffer.from(chunk))
  return Buffer.concat(read)
}

t.test('a large object is copied by parts, and moved and cloned so', async (t) => {
  const { backend, folder } = await start(t, { copyPartBytes: 5 * MiB })
  await backend.write(folder, parsePath('large'), inChunks(large), call)
  await backend.copy!(folder, parsePath('large'), parsePath('a/copied'), { ...call })
  await backend.move(folder, parsePath('large'), parsePath('a/moved'), call)
  await backend.move(folder, parsePath('a'), parsePath('b'), call)
  const clone = randomUUID()
  await backend.createFolder(clone, call)
  const options = { ...call, onProgress: () => {}, onCheckpoint: () => {} }
  t.match(await backend.clone!(folder, clone, options), { files: 2, bytes: 2 * large.length, changedCount: 0 })
  for (const copy of [folder, clone]) {
    t.same(await keys(backend, copy), ['b/', 'b/copied', 'b/moved'])
    for (const path of ['b/copied', 'b/moved']) t.equal(digest(await bytesOf(backend, copy, path)), digest(large))
  }
  t.same(await backend.collectGarbage({ ...call, idleSeconds: 0 }), nothing, 'no part is left')
})

t.test('a file whose writer goes away when all its bytes have arrived counts', async (t) => {
  const { backend, failing, proxy, folder } = await start(t)
  await backend.write(folder, parsePath('old'), inChunks(Buffer.from('1234')), call)
  const completes = ({ method, url }: IncomingMessage) =>
    (method === 'PUT' && !url?.includes('uploadId')) || (method === 'POST' && url?.includes('uploadId'))
  for (const [path, bytes, change] of [
    ['new', Buffer.from('1234567'), { files: 1, bytes: 7 }],
    ['old', Buffer.from('1'), { files: 0, bytes: -3 }],
    ['large', large, { files: 1, bytes: large.length }],
  ] as const) {
    const controller = new AbortController()
    // The storage has done it long before it answers.
    proxy.fault = (request) => (completes(request) ? 'working' : undefined)
    const written = failing.write(folder, parsePath(path), inChunks(bytes), { signal: controller.signal })
    const failure = written.then(
      () => undefined,
      (error) => error,
    )
    await eventually(() =>
      bytesOf(backend, folder, path).then(
        (found) => found.equals(bytes),
        () => false,
      ),
    )
    controller.abort()
    t.match(await failure, { code: 'storage_unavailable', change }, path)
  }
})

t.test('a copy is read with the same header fields, whatever its size', async (t) => {
  const { backend, folder, client, keyOf, options } = await start(t, { copyPartBytes: 5 * MiB })
  const headers = { ContentType: 'text/x-log', ContentEncoding: 'gzip', CacheControl: 'no-cache' }
  for (const [path, Body] of Object.entries({ small: Buffer.from('x'), large })) {
    const object = { Bucket: options.bucket, Key: keyOf(path), Body, Metadata: { owner: 'somebody' }, ...headers }
    await client.send(new PutObjectCommand(object))
    await backend.copy!(folder, parsePath(path), parsePath(`${path}.copy`), call)
    const copy = await client.send(new HeadObjectCommand({ Bucket: options.bucket, Key: keyOf(`${path}.copy`) }))
    t.match(copy, { ...headers, Metadata: { owner: 'somebody' }, ContentLength: Body.length })
  }
})

t.test('the cleanup leaves alone what others have in the bucket', async (t) => {
  const { backend, client, options } = await start(t)
  const Bucket = options.bucket
  const others = ['uploads/photo', 'uploads/2026/000001', 'moves/notes', 'locks/door', 'probes/moon']
  for (const name of others) {
    await client.send(new PutObjectCommand({ Bucket, Key: `${options.prefix}/${name}`, Body: 'not ours' }))
  }
  const Key = `${options.prefix}/elsewhere`
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }))
  t.same(await backend.collectGarbage({ ...call, idleSeconds: 0 }), nothing)
  for (const name of others) {
    await client.send(new HeadObjectCommand({ Bucket, Key: `${options.prefix}/${name}` }))
  }
  await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }))
})

for (const [stage, fails] of [
  ['while it copies', (copies: number) => copies > 20],
  ['while it deletes', (_: number, url?: string) => url?.includes('?delete')],
] as const) {
  for (const [by, resume] of [
    [
      'the same call',
      (backend: Backend, folder: string) => backend.move(folder, parsePath('from'), parsePath('to'), call),
    ],
    ['the cleanup', (backend: Backend) => backend.collectGarbage({ ...call, idleSeconds: 0 })],
  ] as const) {
    t.test(`a move that is cut off ${stage} is finished by ${by}`, async (t) => {
      const { backend, failing, proxy, folder } = await start(t)
      const names = Array.from({ length: 50 }, (_, index) => `d/${String(index).padStart(2, '0')}`)
      await Promise.all(
        names.map((name) => backend.write(folder, parsePath(`from/${name}`), inChunks(Buffer.from(name)), call)),
      )
      let copies = 0
      proxy.fault = ({ url, headers }) => {
        if (headers['x-amz-copy-source'] !== undefined) copies++
        return fails(copies, url) ? 'reset' : undefined
      }
      await t.rejects(failing.move(folder, parsePath('from'), parsePath('to'), call), { code: 'storage_unavailable' })
      await backend.write(folder, parsePath('from/d/new'), inChunks(Buffer.from('d/new')), call)
      await resume(backend, folder)
      const moved = [...names, 'd/new'].map((name) => `to/${name}`)
      t.same(await keys(backend, folder), ['to/', 'to/d/', ...moved])
      for (const path of moved) t.equal(`to/${await bytesOf(backend, folder, path)}`, path)
      await t.rejects(backend.move(folder, parsePath('from'), parsePath('to'), call), { code: 'entry_not_found' })
    })
  }
}

t.test('a clone that is cut off goes on behind what is done without a gap', async (t) => {
  const { backend, failing, proxy, folder } = await start(t)
  const names = Array.from({ length: 50 }, (_, index) => `d/${String(index).padStart(2, '0')}`)
  await Promise.all(names.map((name) => backend.write(folder, parsePath(name), inChunks(Buffer.from(name)), call)))
  const clone = randomUUID()
  await backend.createFolder(clone, call)
  let checkpoint = { after: '', files: 0 }
  const onCheckpoint = (value: unknown) => {
    checkpoint = value as typeof checkpoint
  }
  const options = { ...call, onProgress: () => {}, onCheckpoint }
  const source = ({ headers }: IncomingMessage) => String(headers['x-amz-copy-source'] ?? '')
  proxy.fault = (request) => (source(request).endsWith('/07') ? 'lost-answer' : undefined)
  await t.rejects(failing.clone!(folder, clone, options), { code: 'storage_unavailable' })
  const { after, files } = checkpoint
  t.ok(after < 'd/07', 'what others did behind it does not count')
  t.equal(after, names[files - 1] ?? '')
  proxy.fault = () => undefined
  t.match(await failing.clone!(folder, clone, { ...options, checkpoint }), { files: 50, bytes: 200, changedCount: 0 })
  t.same(await keys(backend, clone), ['d/', ...names])
})

t.test('what is written to a file while it is moved is not lost', async (t) => {
  const { backend, failing, proxy, folder } = await start(t)
  for (const name of ['1', '2', '3', '4', '5', '6']) {
    await backend.write(folder, parsePath(name), inChunks(Buffer.from('old')), call)
    let written: Promise<unknown> | undefined
    proxy.fault = ({ headers }) => {
      if (headers['x-amz-copy-source'] === undefined || written !== undefined) return undefined
      written = backend.write(folder, parsePath(name), inChunks(Buffer.from('new')), call)
      return 'late'
    }
    await failing.move(folder, parsePath(name), parsePath(`moved ${name}`), call)
    await written
    const left = await bytesOf(backend, folder, name).catch(() => bytesOf(backend, folder, `moved ${name}`))
    t.equal(left.toString(), 'new')
  }
})

t.test('an upload whose process died after its file appeared is that file, once', async (t) => {
  const { backend, failing, proxy, folder } = await start(t)
  for (const bytes of [Buffer.from('small'), large]) {
    const upload = randomUUID()
    await backend.beginUpload(folder, upload, call)
    await backend.appendUpload(folder, upload, inChunks(bytes), { ...call, offset: 0 })
    proxy.fault = ({ method, url }) => (method === 'DELETE' || url?.includes('delete') ? 'reset' : undefined)
    const size = bytes.length
    await t.rejects(failing.completeUpload(folder, upload, parsePath('file'), { ...call, size }), {
      code: 'storage_unavailable',
    })
    t.equal(digest(await bytesOf(backend, folder, 'file')), digest(bytes))
    await t.rejects(backend.completeUpload(folder, upload, parsePath('file'), { ...call, size }), {
      code: 'upload_not_found',
    })
    t.equal(digest(await bytesOf(backend, folder, 'file')), digest(bytes))
    await t.rejects(backend.readUpload(folder, upload, call), { code: 'upload_not_found' })
  }
})

t.test('many uploads share few buffers', async (t) => {
  const { backend, folder } = await start(t, { partBytes: 5 * MiB, uploadBuffers: 2 })
  const contents = Array.from({ length: 6 }, (_, index) => patternBytes(11 * MiB, String(index)))
  await Promise.all(contents.map((bytes, index) => backend.write(folder, parsePath(`${index}`), inChunks(bytes), call)))
  for (const [index, bytes] of contents.entries()) {
    t.equal(digest(await bytesOf(backend, folder, `${index}`)), digest(bytes))
  }

  async function* slow() {
    yield large.subarray(0, MiB)
    await new Promise(() => {})
  }
  const { signal } = new AbortController()
  void Promise.all([1, 2].map((index) => backend.write(folder, parsePath(`slow ${index}`), slow(), { signal }))).catch(
    () => {},
  )
  await backend.write(folder, parsePath('small'), inChunks(Buffer.from('does not wait')), call)
  const controller = new AbortController()
  const waiting = backend.write(folder, parsePath('large'), inChunks(large), { signal: controller.signal })
  controller.abort(new Error('waited long enough'))
  await t.rejects(waiting, { message: 'waited long enough' })
})

t.test('a reader that is slow to take the last bytes leaves the connection to others', async (t) => {
  const { backend, folder } = await start(t)
  const bytes = patternBytes(100 * 1024)
  await backend.write(folder, parsePath('file'), inChunks(bytes), call)
  const { chunks } = await backend.read(folder, parsePath('file'), call)
  const slow = chunks({ start: 0, end: bytes.length })[Symbol.asyncIterator]()
  let taken = (await slow.next()).value.length
  // By its end the slow one's connection is free.
  await bytesOf(backend, folder, 'file')
  const others = await Promise.all(Array.from({ length: 30 }, () => bytesOf(backend, folder, 'file')))
  for (const one of others) t.equal(digest(one), digest(bytes))
  for (let next = await slow.next(); !next.done; next = await slow.next()) taken += next.value.length
  t.equal(taken, bytes.length)
})

t.test('a file that grows over what the parts can hold is a limit, and told before', async (t) => {
  const { backend } = await start(t, { partBytes: 5 * MiB })
  t.equal(backend.limits.maxFileBytes, 10_000 * 5 * MiB)
})

t.test('a path that makes a longer key than S3 takes is refused', async (t) => {
  const { backend, folder } = await start(t)
  const long = Array.from({ length: 10 }, () => 'x'.repeat(120)).join('/')
  await t.rejects(backend.write(folder, parsePath(long), inChunks(Buffer.from('x')), call), { code: 'invalid_path' })
  await t.rejects(backend.stat(folder, parsePath(long), call), { code: 'invalid_path' })
})

t.test('writers of one file are told apart by a server that knows no preconditions', async (t) => {
  const { failing, proxy, folder } = await start(t)
  proxy.fault = ({ headers }) => ('if-none-match' in headers || 'if-match' in headers ? 'not-implemented' : undefined)
  const write = (more: object) =>
    failing.write(folder, parsePath('file'), inChunks(Buffer.from('x')), { ...call, ...more })
  const { entry } = await write({ ifAbsent: true })
  await t.rejects(write({ ifAbsent: true }), { code: 'entry_exists' })
  await write({ ifMatch: entry.etag })
  await t.rejects(write({ ifMatch: 'another' }), { code: 'precondition_failed' })
})

t.test('one who gives up does not fail the others who write under the first precondition', async (t) => {
  const { backend, folder } = await start(t)
  const controller = new AbortController()
  const write = (path: string, { signal }: { signal: AbortSignal }) =>
    backend.write(folder, parsePath(path), inChunks(Buffer.from('x')), { signal, ifAbsent: true })
  const [given, others] = [write('given up', controller), [1, 2, 3].map((index) => write(`${index}`, call))]
  setTimeout(() => controller.abort(new Error('given up')), 5)
  await t.rejects(given, { message: 'given up' })
  await Promise.all(others)
  t.same(await keys(backend, folder), ['1', '2', '3'])
})
