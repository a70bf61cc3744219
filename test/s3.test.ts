import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Backend } from '../backends/backend.ts'
import { digest, inChunks, MiB, patternBytes } from '../backends/conformance/bytes.ts'
import { startFaultyProxy } from './faulty-proxy.ts'
import { call, openS3 } from './s3.ts'

const large = patternBytes(17 * MiB)
const nothing = { files: 0, bytes: 0 }

/** A backend on the storage itself, and one through a proxy that can make it fail, each with its own circuit. */
async function start(t: { teardown(fn: () => unknown): void }, more: object = {}) {
  const { options, open } = await openS3(more)
  const proxy = await startFaultyProxy(t, options.endpoint!)
  const { open: openThrough } = await openS3({ ...options, endpoint: proxy.url, maxAttempts: 1 })
  const backends = { backend: await open(), failing: await openThrough() }
  t.teardown(() => Promise.all(Object.values(backends).map((backend) => backend.close())))
  const folder = randomUUID()
  await backends.backend.createFolder(folder, call)
  return { ...backends, proxy, folder }
}

async function keys(backend: Backend, folder: string): Promise<string[]> {
  const found: string[] = []
  for await (const { path, type } of backend.list(folder, { ...call, recursive: true })) {
    found.push(type === 'directory' ? `${path}/` : path)
  }
  return found
}

async function bytesOf(backend: Backend, folder: string, path: string): Promise<Buffer> {
  const { entry, chunks } = await backend.read(folder, path, call)
  const read: Buffer[] = []
  for await (const chunk of chunks({ start: 0, end: entry.size })) read.push(Buffer.from(chunk))
  return Buffer.concat(read)
}

t.test('a large object is copied by parts, and moved and cloned so', async (t) => {
  const { backend, folder } = await start(t, { copyPartBytes: 5 * MiB })
  await backend.write(folder, 'large', inChunks(large), call)
  await backend.copy!(folder, 'large', 'a/copied', { ...call })
  await backend.move(folder, 'large', 'a/moved', call)
  await backend.move(folder, 'a', 'b', call)
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

for (const [stage, fails] of [
  ['while it copies', (copies: number) => copies > 20],
  ['while it deletes', (_: number, method?: string) => method === 'POST' || method === 'DELETE'],
] as const) {
  for (const [by, resume] of [
    ['the same call', (backend: Backend, folder: string) => backend.move(folder, 'from', 'to', call)],
    ['the cleanup', (backend: Backend) => backend.collectGarbage({ ...call, idleSeconds: 0 })],
  ] as const) {
    t.test(`a move that is cut off ${stage} is finished by ${by}`, async (t) => {
      const { backend, failing, proxy, folder } = await start(t)
      const names = Array.from({ length: 50 }, (_, index) => `d/${String(index).padStart(2, '0')}`)
      await Promise.all(names.map((name) => backend.write(folder, `from/${name}`, inChunks(Buffer.from(name)), call)))
      let copies = 0
      proxy.fault = ({ method, headers }) => {
        if (headers['x-amz-copy-source'] !== undefined) copies++
        return fails(copies, method) ? 'reset' : undefined
      }
      await t.rejects(failing.move(folder, 'from', 'to', call), { code: 'storage_unavailable' })
      await backend.write(folder, 'from/d/new', inChunks(Buffer.from('d/new')), call)
      await resume(backend, folder)
      const moved = [...names, 'd/new'].map((name) => `to/${name}`)
      t.same(await keys(backend, folder), ['to/', 'to/d/', ...moved])
      for (const path of moved) t.equal(`to/${await bytesOf(backend, folder, path)}`, path)
      await t.rejects(backend.move(folder, 'from', 'to', call), { code: 'entry_not_found' })
    })
  }
}

t.test('an upload whose process died after its file appeared is that file, once', async (t) => {
  const { backend, failing, proxy, folder } = await start(t)
  for (const bytes of [Buffer.from('small'), large]) {
    const upload = randomUUID()
    await backend.beginUpload(folder, upload, call)
    await backend.appendUpload(folder, upload, inChunks(bytes), { ...call, offset: 0 })
    proxy.fault = ({ method, url }) => (method === 'DELETE' || url?.includes('delete') ? 'reset' : undefined)
    const size = bytes.length
    await t.rejects(failing.completeUpload(folder, upload, 'file', { ...call, size }), { code: 'storage_unavailable' })
    t.equal(digest(await bytesOf(backend, folder, 'file')), digest(bytes))
    await t.rejects(backend.completeUpload(folder, upload, 'file', { ...call, size }), { code: 'upload_not_found' })
    t.equal(digest(await bytesOf(backend, folder, 'file')), digest(bytes))
    await t.rejects(backend.readUpload(folder, upload, call), { code: 'upload_not_found' })
  }
})

t.test('many uploads share few buffers', async (t) => {
  const { backend, folder } = await start(t, { partBytes: 5 * MiB, uploadBuffers: 2 })
  const contents = Array.from({ length: 6 }, (_, index) => patternBytes(11 * MiB, String(index)))
  await Promise.all(contents.map((bytes, index) => backend.write(folder, `${index}`, inChunks(bytes), call)))
  for (const [index, bytes] of contents.entries()) {
    t.equal(digest(await bytesOf(backend, folder, `${index}`)), digest(bytes))
  }

  async function* slow() {
    yield large.subarray(0, MiB)
    await new Promise(() => {})
  }
  const { signal } = new AbortController()
  void Promise.all([1, 2].map((index) => backend.write(folder, `slow ${index}`, slow(), { signal }))).catch(() => {})
  await backend.write(folder, 'small', inChunks(Buffer.from('does not wait')), call)
  const controller = new AbortController()
  const waiting = backend.write(folder, 'large', inChunks(large), { signal: controller.signal })
  controller.abort(new Error('waited long enough'))
  await t.rejects(waiting, { message: 'waited long enough' })
})

t.test('a reader that is slow to take the last bytes leaves the connection to others', async (t) => {
  const { backend, folder } = await start(t)
  const bytes = patternBytes(100 * 1024)
  await backend.write(folder, 'file', inChunks(bytes), call)
  const { chunks } = await backend.read(folder, 'file', call)
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
  await t.rejects(backend.write(folder, long, inChunks(Buffer.from('x')), call), { code: 'invalid_path' })
  await t.rejects(backend.stat(folder, long, call), { code: 'invalid_path' })
})
