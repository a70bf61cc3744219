import { request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Backend } from '../backends/backend.ts'
import { digest, inChunks, MiB, patternBytes } from '../backends/conformance/bytes.ts'
import { s3Volume } from './ceph/index.ts'
import { call, contentOf, startBackendThrough } from './s3.ts'
import { eventually, startServer } from './server.ts'

const codeOf = ({ code }: { code: string }) => code

t.test('what equal calls at once remove, move and store is counted once', async (t) => {
  const { backend, folder } = await startBackendThrough(t)
  const small = () => inChunks(Buffer.from('12345'))
  const atOnce = <T>(work: () => Promise<T>) => Promise.all([1, 2, 3, 4].map(() => work().catch(codeOf)))

  const stored = await atOnce(() => backend.write(folder, 'file', small(), call))
  const isNew = (written: object | string) => typeof written === 'object' && !('replaced' in written)
  t.equal(stored.filter(isNew).length, 1)

  const removed = await atOnce(() => backend.remove(folder, 'file', { ...call, recursive: false }))
  const sum = removed.reduce<number>((files, amount) => files + (typeof amount === 'object' ? amount.files : 0), 0)
  t.equal(sum, 1)

  await backend.write(folder, 'from', small(), call)
  await backend.write(folder, 'to', small(), call)
  const moved = await atOnce(() => backend.move(folder, 'from', 'to', { ...call, overwrite: true }))
  t.same(
    moved.filter((amount) => typeof amount === 'object'),
    [{ files: 1, bytes: 5 }],
  )
})

t.test('locks grow old by the clock of the storage', async (t) => {
  const { backend, proxy, folder, open } = await startBackendThrough(t)
  const isCompletion = (url = '') => /\/vfolders\/.*uploadId=/.test(url) && !url.includes('partNumber=')
  proxy.fault = ({ method, url }) => (method === 'POST' && isCompletion(url) ? 'working' : 'slow-clock')
  const bytes = patternBytes(9 * MiB)
  const write = ({ write }: Backend) =>
    write(folder, 'file', inChunks(bytes), { ...call, ifAbsent: true }).catch(codeOf)
  // As of another process.
  const other = await open()
  t.teardown(() => other.close())
  const first = write(backend)
  await eventually(async () => proxy.struck.working > 0)
  const second = write(other)
  t.match(await first, { entry: { size: bytes.length } })
  t.equal(await second, 'entry_exists')
})

t.test('a storage that has another change under way is not away', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t)
  proxy.fault = ({ headers }) => (headers['if-none-match'] !== undefined ? 'conflict' : undefined)
  await backend.write(folder, 'a', inChunks(Buffer.from('bytes')), call)
  for (let attempt = 0; attempt < 6; attempt++) {
    const again = backend.write(folder, 'b', inChunks(Buffer.from('bytes')), { ...call, ifAbsent: true })
    await t.rejects(again, { code: 'entry_busy' })
  }
  t.equal(String(await contentOf(backend, folder, 'a')), 'bytes')
})

t.test('slow uploads live on, and so do those that wait for them', async (t) => {
  const volume = await s3Volume()
  const server = await startServer(t, {
    env: {
      VOLUMES: JSON.stringify({ default: { ...volume, uploadBuffers: 1 } }),
      IDLE_TIMEOUT_SECONDS: '2',
      UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
    },
  })
  const folder = await server.createFolder()
  const bytes = patternBytes(9 * MiB)
  const slowly = async () => {
    const upload = request(await server.sign(folder, 'slow', { operation: 'upload' }), { method: 'PUT' })
    upload.setHeader('content-length', bytes.length)
    const answered = new Promise<number | undefined>((resolve, reject) => {
      upload.on('response', (response) => resolve(response.resume().statusCode)).on('error', reject)
    })
    const last = bytes.length - 10
    upload.write(bytes.subarray(0, last))
    for (let at = last; at < bytes.length; at++) {
      await sleep(800)
      upload.write(bytes.subarray(at, at + 1))
    }
    upload.end()
    return answered
  }
  const slow = slowly()
  await sleep(1000)
  const url = await server.sign(folder, 'waiting', { operation: 'upload' })
  const waiting = fetch(url, { method: 'PUT', body: new Uint8Array(bytes) })
  t.equal(await slow, 201)
  t.equal((await waiting).status, 201)
  for (const name of ['slow', 'waiting']) {
    const stored = await fetch(await server.sign(folder, name))
    t.equal(digest(Buffer.from(await stored.arrayBuffer())), digest(bytes))
  }
})
