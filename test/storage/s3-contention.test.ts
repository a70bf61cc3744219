import { request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Backend } from '../../backends/backend.ts'
import { digest, inChunks, MiB, patternBytes } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { s3Volume } from '../ceph/index.ts'
import { call, contentOf, paths, startBackendThrough } from '../s3.ts'
import { eventually, startServer } from '../server.ts'

const isCompletion = (url = '') => /\/vfolders\/.*uploadId=/.test(url) && !url.includes('partNumber=')
const codeOf = ({ code }: { code: string }) => code

t.test('what equal calls at once remove, move and store is counted once', async (t) => {
  const { backend, folder } = await startBackendThrough(t)
  const small = () => inChunks(Buffer.from('12345'))
  const atOnce = <T>(work: () => Promise<T>) => Promise.all([1, 2, 3, 4].map(() => work().catch(codeOf)))

  const stored = await atOnce(() => backend.write(folder, parsePath('file'), small(), call))
  const isNew = (written: object | string) => typeof written === 'object' && !('replaced' in written)
  t.equal(stored.filter(isNew).length, 1)

  const removed = await atOnce(() => backend.remove(folder, parsePath('file'), { ...call, recursive: false }))
  const sum = removed.reduce<number>((files, amount) => files + (typeof amount === 'object' ? amount.files : 0), 0)
  t.equal(sum, 1)

  await backend.write(folder, parsePath('from'), small(), call)
  await backend.write(folder, parsePath('to'), small(), call)
  const moved = await atOnce(() =>
    backend.move(folder, parsePath('from'), parsePath('to'), { ...call, overwrite: true }),
  )
  t.same(
    moved.filter((amount) => typeof amount === 'object'),
    [{ files: 1, bytes: 5 }],
  )

  const copied = await atOnce(() => backend.copy!(folder, parsePath('to'), parsePath('copy'), call))
  t.equal(copied.filter(isNew).length, 1)
})

t.test('locks grow old by the clock of the storage', async (t) => {
  const { backend, proxy, folder, open } = await startBackendThrough(t)
  proxy.fault = ({ method, url }) => (method === 'POST' && isCompletion(url) ? 'working' : 'slow-clock')
  const bytes = patternBytes(9 * MiB)
  const ended: string[] = []
  const write = async (name: string, { write }: Backend) => {
    const written = await write(folder, parsePath('file'), inChunks(bytes), { ...call, ifAbsent: true }).catch(codeOf)
    ended.push(name)
    return written
  }
  // As of another process.
  const other = await open()
  t.teardown(() => other.close())
  const first = write('first', backend)
  await eventually(async () => proxy.struck.working > 0)
  const second = write('second', other)
  t.match(await first, { entry: { size: bytes.length } })
  t.equal(await second, 'entry_exists')
  t.same(ended, ['first', 'second'], 'the lock of the first was not taken for dead')
})

t.test('who has no precondition does not wait for one who has', async (t) => {
  const { backend, proxy, folder, open } = await startBackendThrough(t)
  let tries = 0
  proxy.fault = ({ method, url }) => {
    if (method === 'PUT' && url?.includes('/locks/')) tries++
    return method === 'POST' && isCompletion(url) ? 'working' : undefined
  }
  const other = await open()
  t.teardown(() => other.close())
  const ended: string[] = []
  const write = async (name: string, { write }: Backend, bytes: Buffer, ifAbsent: boolean) => {
    await write(folder, parsePath('file'), inChunks(bytes), { ...call, ifAbsent }).catch(codeOf)
    ended.push(name)
  }
  const first = write('first', other, patternBytes(9 * MiB), true)
  await eventually(async () => proxy.struck.working > 0)
  const waiting = write('waiting', backend, patternBytes(9 * MiB), true)
  await eventually(async () => tries > 1)
  await write('unconditional', backend, Buffer.from('bytes'), false)
  await Promise.all([first, waiting])
  t.equal(ended[0], 'unconditional')
})

t.test('a lock of the dead is removed, though an answer is lost', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t)
  const write = () => backend.write(folder, parsePath('file'), inChunks(Buffer.from('1')), { ...call, ifAbsent: true })
  const isLock = (url = '') => url.includes('/locks/')
  proxy.fault = ({ method, url }) => (method === 'DELETE' && isLock(url) ? 'reset' : undefined)
  await write()
  await sleep(3000)
  proxy.fault = ({ method, url }) =>
    method === 'PUT' && isLock(url) && proxy.struck['lost-answer'] === 0 ? 'lost-answer' : undefined
  await backend.collectGarbage({ ...call, idleSeconds: 2 })
  t.equal(proxy.struck['lost-answer'], 1)
  const begun = performance.now()
  await t.rejects(write(), { code: 'entry_exists' })
  t.ok(performance.now() - begun < 15_000, 'it waits 30 seconds for a lock that is held')
})

t.test('the cleanup leaves slow copies and moves alone', async (t) => {
  // HTTP dates have whole seconds.
  const idleSeconds = 2
  const { backend, proxy, folder, open } = await startBackendThrough(t, { copyPartBytes: 5 * MiB }, idleSeconds)
  const other = await open()
  t.teardown(() => other.close())
  const bytes = patternBytes(12 * MiB)
  await backend.write(folder, parsePath('file'), inChunks(bytes), call)
  proxy.fault = ({ headers, url }) =>
    headers['x-amz-copy-source'] !== undefined && url?.includes('partNumber=') ? 'working' : undefined
  const works = [
    () => backend.copy!(folder, parsePath('file'), parsePath('copied'), call),
    () => backend.move(folder, parsePath('file'), parsePath('moved'), { ...call, overwrite: true }),
  ]
  for (const work of works) {
    const working = work()
    await sleep(3000)
    t.same(await other.collectGarbage({ ...call, idleSeconds }), { files: 0, bytes: 0 })
    await working
  }
  t.same(await paths(backend, folder), ['copied', 'moved'])
  for (const name of ['copied', 'moved']) t.equal(digest(await contentOf(backend, folder, name)), digest(bytes))
  t.same(proxy.struck.working, 6, 'nothing was done twice')
})

t.test('a storage that has another change under way is not away', async (t) => {
  const { backend, proxy, folder } = await startBackendThrough(t)
  proxy.fault = ({ headers }) => (headers['if-none-match'] !== undefined ? 'conflict' : undefined)
  await backend.write(folder, parsePath('a'), inChunks(Buffer.from('bytes')), call)
  for (let attempt = 0; attempt < 6; attempt++) {
    const again = backend.write(folder, parsePath('b'), inChunks(Buffer.from('bytes')), { ...call, ifAbsent: true })
    await t.rejects(again, { code: 'entry_busy' })
  }
  t.equal(String(await contentOf(backend, folder, 'a')), 'bytes')
})

t.test('slow uploads live on, and so do those that wait for their memory', async (t) => {
  const volume = await s3Volume()
  const server = await startServer(t, {
    env: {
      VOLUMES: JSON.stringify({ default: { ...volume, uploadBuffers: 1 } }),
      IDLE_TIMEOUT_SECONDS: '3',
      UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
    },
  })
  const folder = await server.createFolder()
  const begin = async (name: string, bytes: Buffer) => {
    const upload = request(await server.sign(folder, name, { operation: 'upload' }), { method: 'PUT' })
    upload.setHeader('content-length', bytes.length)
    const answered = new Promise<number | undefined>((resolve, reject) => {
      upload.on('response', (response) => resolve(response.resume().statusCode)).on('error', reject)
    })
    return { upload, answered }
  }
  const files = { slow: patternBytes(7 * MiB), waiting: patternBytes(17 * MiB), later: patternBytes(9 * MiB) }
  const waiting = await begin('waiting', files.waiting)
  waiting.upload.write(files.waiting.subarray(0, 5 * MiB))
  await sleep(500)
  const slow = await begin('slow', files.slow)
  const last = files.slow.length - 12
  slow.upload.write(files.slow.subarray(0, last))
  await sleep(500)
  // Its first part is stored, and then it waits for the memory of another one.
  waiting.upload.end(files.waiting.subarray(5 * MiB))
  const later = await begin('later', files.later)
  later.upload.end(files.later)
  for (let at = last; at < files.slow.length; at++) {
    await sleep(800)
    slow.upload.write(files.slow.subarray(at, at + 1))
  }
  slow.upload.end()
  for (const { answered } of [slow, waiting, later]) t.equal(await answered, 201)
  for (const [name, bytes] of Object.entries(files)) {
    const stored = await fetch(await server.sign(folder, name))
    t.equal(digest(Buffer.from(await stored.arrayBuffer())), digest(bytes))
  }
  t.notOk(server.lines().some(({ msg }) => msg === 'leftovers removed'))
})
