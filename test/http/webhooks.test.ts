import { createHash, randomUUID } from 'node:crypto'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { asBackendAi, backendAiSecret } from '../backend-ai.ts'
import { startReceiver } from '../receiver.ts'
import { type Answer, ended, eventually, startServer } from '../server.ts'
import { create, patch, signTus } from '../tus.ts'

const receiver = await startReceiver(t)
const server = await startServer(t, {
  env: {
    ...receiver.env,
    QUOTA_WARNING_PERCENT: '80',
    BACKEND_AI_MANAGER_SECRET: backendAiSecret,
    TRASH_RETENTION_SECONDS: '100',
    UPLOAD_TTL_SECONDS: '1',
    UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
  },
})

t.test('a vfolder that is created and deleted, and the job that ends', async (t) => {
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  const headers = { [requestIdHeader]: 'the-creation', traceparent }
  const { id: folder }: Answer = await (await server.manager('POST', '/folders', {}, headers)).json()
  const created = await receiver.told((event) => event.type === 'vfolder.created' && event.folder === folder)
  t.match(created, { requestId: 'the-creation', volume: 'default', data: { adopted: false } })
  const delivery = receiver.deliveries.find(({ event }) => event.id === created.id)
  t.ok(delivery?.isSigned)
  t.match(delivery?.headers, {
    'webhook-id': created.id,
    [requestIdHeader]: 'the-creation',
    'content-type': 'application/json',
    traceparent,
  })
  t.notMatch(delivery?.event, { traceparent }, 'in no member of the event')
  await server.ask('POST', '/folders', { id: folder })
  const deletion = await server.manager('DELETE', `/folders/${folder}?permanent=true`, undefined, headers)
  const { job }: Answer = await deletion.json()
  await ended(server, job.id)
  const last = await receiver.told((event) => event.type === 'job.ended' && event.data.job.id === job.id)
  t.equal(receiver.deliveries.find(({ event }) => event.id === last.id)?.headers.traceparent, traceparent)
  t.match(last, { folder, requestId: 'the-creation', data: { job: { kind: 'delete-vfolder', state: 'succeeded' } } })
  t.same(
    receiver.of(folder).map(({ type }) => type),
    ['vfolder.created', 'vfolder.deleted', 'job.ended'],
  )
  t.equal(new Set(receiver.events().map(({ cursor }) => cursor)).size, receiver.events().length)
  const { chapters }: Answer = await server.ask('GET', '/requests/the-creation')
  const deliveries = chapters.filter(({ kind }: Answer) => kind === 'other')
  t.equal(deliveries.length, 3, 'they are a part of the story')
  t.match(deliveries[0], { title: /^event.deliver vfolder.created to /, outcome: 'succeeded', events: [{ folder }] })
})

t.test('files', async (t) => {
  const files = await server.files()
  const { folder } = files
  const put = await fetch(await server.sign(folder, 'put.txt', { operation: 'upload' }), {
    method: 'PUT',
    body: 'twelve bytes',
  })
  t.equal(put.status, 201)
  await files.upload({ 'one.txt': 'one', 'two.txt': 'two', 'large.bin': new Uint8Array(100_000) })
  await files.upload({ 'one.txt': 'again' })
  const upload = await create(await signTus(files, 'tus.bin'), 10)
  t.equal((await patch(upload, 0, '0123456789')).status, 204)
  await files.post('move', { from: 'put.txt', to: 'sub/moved.txt' })
  await files.post('copy', { from: 'sub', to: 'copy' })
  const other = await server.createFolder()
  await files.post('move', { from: 'two.txt', to: 'two.txt', toFolder: other })
  await files.post('delete', { paths: ['one.txt', 'missing', 'tus.bin'], permanent: true })
  await receiver.told((event) => event.type === 'file.deleted' && event.folder === folder)
  await receiver.told((event) => event.type === 'file.moved' && event.folder === other)

  const told = receiver.of(folder)
  const stored = told.filter(({ type }) => type === 'file.stored').flatMap(({ data }) => data.files)
  const of = (path: string) => stored.filter((file) => file.path === path)
  const sha256 = createHash('sha256').update('twelve bytes').digest('hex')
  t.match(of('put.txt'), [
    { size: 12, sha256, replaced: false, etag: /./, requestId: put.headers.get(requestIdHeader) },
  ])
  t.match(of('one.txt'), [
    { size: 3, replaced: false },
    { size: 5, replaced: true },
  ])
  t.match(of('large.bin'), [{ size: 100_000 }])
  t.match(of('tus.bin'), [{ size: 10, sha256: createHash('sha256').update('0123456789').digest('hex') }])
  t.match(of('copy'), [{ type: 'directory', files: 1, size: 12, source: { folder, path: 'sub' } }])
  const [moved, left] = told.filter(({ type }) => type === 'file.moved')
  t.same(moved.data, { from: { folder, path: 'put.txt' }, to: { folder, path: 'sub/moved.txt' } })
  t.same(left.data, { from: { folder, path: 'two.txt' }, to: { folder: other, path: 'two.txt' } })
  t.same(receiver.of(other).find(({ type }) => type === 'file.moved').data, left.data)
  t.same(told.at(-1).data, { paths: ['one.txt', 'tus.bin'], restorable: false })
  t.ok(receiver.deliveries.every(({ isSigned }) => isSigned))
})

t.test('small files that are stored at once are told in few events', async (t) => {
  const { folder } = await server.files()
  const paths = Array.from({ length: 100 }, (_, index) => `file-${index}`)
  const urls = await Promise.all(paths.map((path) => server.sign(folder, path, { operation: 'upload' })))
  await Promise.all(urls.map((url) => fetch(url, { method: 'PUT', body: 'small' })))
  const filesOf = () => receiver.of(folder).flatMap(({ data }) => data.files ?? [])
  await eventually(() => filesOf().length === paths.length)
  t.same(
    filesOf()
      .map(({ path }) => path)
      .toSorted(),
    paths.toSorted(),
  )
  t.ok(receiver.of(folder).length < 60, `${receiver.of(folder).length} events`)
})

t.test('a clone', async (t) => {
  const files = await server.files()
  await files.upload({ 'one.txt': 'one' })
  const { folder: clone } = await server.ask('POST', `/folders/${files.folder}/clone`)
  const event = await receiver.told((event) => event.type === 'vfolder.cloned' && event.folder === clone.id)
  t.same(event.data, { source: files.folder, files: 1, bytes: 3 })
})

t.test('an upload that expires', async (t) => {
  const files = await server.files()
  const upload = await create(await signTus(files, 'never.bin'), 10)
  t.equal((await patch(upload, 0, '12345')).status, 204)
  const event = await receiver.told((event) => event.type === 'upload.expired' && event.folder === files.folder)
  t.match(event.data, { path: 'never.bin', offset: 5, size: 10 })
  const { chapters }: Answer = await server.ask('GET', `/requests/${event.requestId}`)
  const expired = chapters.find(({ outcome }: Answer) => outcome === 'expired')
  t.match(expired, { kind: 'other', title: 'upload.end never.bin', actor: 'service' }, 'under what began it')
})

t.test('who signed a URL learns what was told of its use', async (t) => {
  const folder = await server.createFolder()
  const signing = { operation: 'upload', paths: ['by-url.txt'] }
  const by = (id: string) => ({ [requestIdHeader]: id })
  const signed = await server.manager('POST', `/folders/${folder}/signed-urls`, signing, by('the-signer'))
  const { signedUrls }: Answer = await signed.json()
  await fetch(signedUrls[0].url, { method: 'PUT', body: 'x', headers: by('the-putter') })
  const event = await receiver.told((event) => event.type === 'file.stored' && event.folder === folder)
  t.match(event, { requestId: 'the-putter', originRequestId: 'the-signer' })
  t.equal(receiver.of(folder)[0].originRequestId, null)
  const told = await eventually(async () => {
    const { chapters }: Answer = await server.ask('GET', '/requests/the-signer')
    return chapters.find(({ title }: Answer) => /^event.deliver file.stored to /.test(title))
  })
  t.match(told, { kind: 'other', id: 'the-putter', outcome: 'succeeded' })
})

t.test('the trash', async (t) => {
  const files = await server.files()
  const { folder } = files
  await files.upload({ 'one.txt': 'one' })
  await files.post('delete', { paths: ['one.txt'] })
  const { entries } = await server.ask('GET', `/folders/${folder}/trash`)
  await server.ask('POST', `/folders/${folder}/trash/${entries[0].id}/restore`, { to: 'back.txt' })
  await server.ask('DELETE', `/folders/${folder}`)
  await server.ask('POST', `/folders/${folder}/restore`)
  await receiver.told((event) => event.type === 'vfolder.restored' && event.folder === folder)
  t.match(
    receiver.of(folder).map(({ type, data }) => [type, data]),
    [
      ['vfolder.created', {}],
      ['file.stored', { files: [{ path: 'one.txt' }] }],
      ['file.deleted', { paths: ['one.txt'], restorable: true }],
      ['file.restored', { path: 'back.txt', from: 'one.txt' }],
      ['vfolder.deleted', { restorable: true }],
      ['vfolder.restored', {}],
    ],
  )
})

t.test('a quota that is nearly used up, of a vfolder and of a scope', async (t) => {
  const scope = 'project-x'
  await server.ask('PUT', `/quota-scopes/${scope}`, { files: 5 })
  const { id: folder } = await server.ask('POST', '/folders', { quotaScope: scope, quota: { bytes: 100 } })
  await server.upload(folder, { one: 'x'.repeat(79) })
  await server.upload(folder, { two: 'x' })
  const crossed = (above: boolean) => (event: Answer) =>
    event.type === 'quota.crossed' && event.folder === folder && event.data.above === above
  const { data } = await receiver.told(crossed(true))
  t.same(data, { limit: 'vfolder', name: folder, unit: 'bytes', above: true, percent: 80, usage: 80, quota: 100 })
  await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: 200 } })
  t.match((await receiver.told(crossed(false))).data, { usage: 80, quota: 200 })
  await server.upload(folder, { three: 'x', four: 'x' })
  const ofScope = await receiver.told((event) => event.type === 'quota.crossed' && event.data.name === scope)
  t.match(ofScope, { folder: null, data: { limit: 'quotaScope', unit: 'files', above: true, usage: 4, quota: 5 } })
})

t.test("a limit of a scope that Backend.AI's manager sets, of one that is there and of a new one", async (t) => {
  for (const isThere of [true, false]) {
    const scope = `user:${randomUUID()}`
    if (isThere) await server.ask('PUT', `/quota-scopes/${scope}`, {})
    const folder = await server.createFolder({ quotaScope: scope })
    await server.upload(folder, { one: 'x'.repeat(90) })
    const limited = { volume: 'default', qsid: scope, options: { limit_bytes: 100 } }
    t.equal((await asBackendAi(server, 'PATCH', '/quota-scope', limited)).status, 204)
    const crossed = (above: boolean) => (event: Answer) =>
      event.type === 'quota.crossed' && event.data.name === scope && event.data.above === above
    t.match((await receiver.told(crossed(true))).data, { unit: 'bytes', usage: 90, quota: 100 })
    t.equal((await asBackendAi(server, 'DELETE', '/quota-scope/quota', limited)).status, 204)
    t.match((await receiver.told(crossed(false))).data, { unit: 'bytes', usage: 90, quota: null })
  }
})

t.test('a volume that is away, and back', async (t) => {
  const root = join(server.dataDir, 'volumes/default')
  await rename(root, `${root}-away`)
  const unwell = await receiver.told((event) => event.type === 'volume.unwell', 30_000)
  t.match(unwell, { volume: 'default', folder: null, data: { reason: /./ } })
  await rename(`${root}-away`, root)
  await receiver.told((event) => event.type === 'volume.well', 30_000)
})
