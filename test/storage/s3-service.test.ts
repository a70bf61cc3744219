import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CreateMultipartUploadCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import t from 'tap'
import { MiB, patternBytes } from '../../backends/conformance/bytes.ts'
import { s3Volume } from '../ceph/index.ts'
import { type Answer, ended, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'
import { needing } from '../tools.ts'

const large = new Uint8Array(patternBytes(11 * MiB))
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** A service with two S3 volumes, one of which redirects, and a posix one; and the bucket past the service. */
async function start(t: { teardown(fn: () => unknown): void }, env: Record<string, string> = {}) {
  const [volume, redirecting] = [await s3Volume(), await s3Volume()]
  const root = await temporaryDirectory(t)
  const VOLUMES = JSON.stringify({
    default: volume,
    redirecting: { ...redirecting, redirect: true },
    local: { backend: 'posix', root },
  })
  const server = await startServer(t, { env: { VOLUMES, ...env } })
  const { accessKeyId, secretAccessKey, bucket, prefix, endpoint, region } = volume
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
  t.teardown(() => client.destroy())
  const objects = async (below: string) => {
    const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix + below }))
    return Contents.map(({ Key }) => Key!.slice(prefix.length + below.length))
  }
  return { server, volume, client, objects }
}

async function keys(server: Server, folder: string): Promise<string[]> {
  const { entries } = await server.ask('GET', `/folders/${folder}/files?recursive=true`)
  return entries.map(({ path, type }: Answer) => (type === 'directory' ? `${path}/` : path))
}

async function download(server: Server, folder: string, path: string, headers: Record<string, string> = {}) {
  const response = await fetch(await server.sign(folder, path), { headers })
  return { response, bytes: new Uint8Array(await response.arrayBuffer()) }
}

t.test('files come and go by the same routes', async (t) => {
  const { server, objects, volume } = await start(t)
  const folder = await server.createFolder()
  await server.upload(folder, { 'form/small': 'hello', 'form/large': large })
  const url = (await server.ask('POST', `/folders/${folder}/signed-urls`, { operation: 'upload', paths: ['put/ü x'] }))
    .signedUrls[0].url
  const put = await fetch(url, { method: 'PUT', body: large, headers: { 'if-none-match': '*' } })
  t.equal(put.status, 201)
  t.match(await put.json(), { size: large.length, sha256: sha256(large) })
  t.equal((await fetch(url, { method: 'PUT', body: 'x', headers: { 'if-none-match': '*' } })).status, 412)
  t.equal(
    (await fetch(url, { method: 'PUT', body: 'x', headers: { 'if-match': put.headers.get('etag')! } })).status,
    200,
  )
  t.equal(
    (await fetch(url, { method: 'PUT', body: 'x', headers: { 'if-match': put.headers.get('etag')! } })).status,
    412,
  )

  const files = (operation: string, body: object) => server.ask('POST', `/folders/${folder}/files/${operation}`, body)
  await files('mkdir', { path: 'empty/deep' })
  const copying = await files('copy', { from: 'form', to: 'copied' })
  t.match(await ended(server, copying.job.id), { state: 'succeeded' })
  await files('move', { from: 'form', to: 'moved/here' })
  await files('move', { from: 'moved/here/small', to: 'moved/tiny' })
  const { deleted } = await files('delete', { paths: ['copied/small', 'empty/deep'], recursive: true })
  t.same(deleted, ['copied/small', 'empty/deep'])
  const expected = ['copied/', 'copied/large', 'empty/', 'moved/', 'moved/here/', 'moved/here/large', 'moved/tiny']
  t.same(await keys(server, folder), [...expected, 'put/', 'put/ü x'])
  t.same(await server.ask('GET', `/folders/${folder}/mount`), {
    type: 's3',
    bucket: volume.bucket,
    prefix: `${volume.prefix}/vfolders/${folder}/`,
  })
  t.ok((await objects(`/vfolders/${folder}/`)).includes('moved/here/large'), 'they are plain objects')

  const { usage } = await server.ask('GET', `/folders/${folder}`)
  t.match(usage, { bytes: 2 * large.length + 'hello'.length + 1, files: 4 })

  const whole = await download(server, folder, 'moved/here/large')
  t.equal(sha256(whole.bytes), sha256(large))
  const range = { range: 'bytes=5000000-9999999', 'if-range': whole.response.headers.get('etag')! }
  const part = await download(server, folder, 'moved/here/large', range)
  t.equal(part.response.status, 206)
  t.equal(sha256(part.bytes), sha256(large.subarray(5_000_000, 10_000_000)))

  const directory = await temporaryDirectory(t)
  const archive = await fetch(await server.signArchive(folder, [], { archive: 'tar' }))
  await writeFile(join(directory, 'all.tar'), Buffer.from(await archive.arrayBuffer()))
  const { stdout } = await promisify(execFile)('tar', ['-tf', join(directory, 'all.tar')])
  t.match(stdout, 'moved/here/large')

  const { job } = await server.ask('DELETE', `/folders/${folder}`)
  t.match(await ended(server, job.id), { state: 'succeeded' })
  t.same(await objects('/'), ['identity'], 'nothing is left in the bucket but the identity of the volume')
})

t.test('an upload by tus goes on after the process was killed', async (t) => {
  const { server, volume, objects } = await start(t)
  const folder = await server.createFolder()
  const { tusUrl } = (
    await server.ask('POST', `/folders/${folder}/signed-urls`, { operation: 'upload', paths: ['dir/file'] })
  ).signedUrls[0]
  const headers = { 'tus-resumable': '1.0.0' }
  const created = await fetch(tusUrl, { method: 'POST', headers: { ...headers, 'upload-length': `${large.length}` } })
  t.equal(created.status, 201)
  const location = created.headers.get('location')!
  const patch = (url: string, offset: number, end: number) =>
    fetch(url, {
      method: 'PATCH',
      headers: { ...headers, 'upload-offset': `${offset}`, 'content-type': 'application/offset+octet-stream' },
      body: large.subarray(offset, end),
    })
  t.equal((await patch(location, 0, 1000)).status, 204)
  t.equal((await patch(location, 1000, 9_000_000)).headers.get('upload-offset'), '9000000')
  await server.end('SIGKILL')

  const next = await startServer(t, {
    dataDir: server.dataDir,
    env: { VOLUMES: JSON.stringify({ default: volume }), LEASE_SECONDS: '1' },
  })
  const resumed = location.replace(server.url, next.url)
  t.equal((await fetch(resumed, { method: 'HEAD', headers })).headers.get('upload-offset'), '9000000')
  const last = await patch(resumed, 9_000_000, large.length)
  t.equal(last.status, 204)
  t.equal(last.headers.get('repr-digest'), `sha-256=:${createHash('sha256').update(large).digest('base64')}:`)
  t.equal(sha256((await download(next, folder, 'dir/file')).bytes), sha256(large))
  t.same(await objects('/uploads/'), [])
})

t.test('vfolders are cloned within S3, and to and from a local volume', async (t) => {
  const { server } = await start(t)
  const source = await server.createFolder()
  await server.upload(source, { 'a/large': large, 'a/small': 'hello', b: '' })
  await server.ask('POST', `/folders/${source}/files/mkdir`, { path: 'empty' })
  let from = source
  for (const volume of ['default', 'local', 'default']) {
    const { job, folder } = await server.ask('POST', `/folders/${from}/clone`, { volume })
    t.match(await ended(server, job.id), { state: 'succeeded', result: { files: 3, changedCount: 0 } })
    t.same(await keys(server, folder.id), await keys(server, source))
    t.equal(sha256((await download(server, folder.id, 'a/large')).bytes), sha256(large))
    from = folder.id
  }
})

t.test('what is written past the service is seen, and counted by the sync', async (t) => {
  const { server, client, volume } = await start(t, { QUOTA_SYNC_INTERVAL_SECONDS: '1' })
  const folder = await server.createFolder()
  await server.upload(folder, { own: 'own' })
  const Key = `${volume.prefix}/vfolders/${folder}/dir/other`
  await client.send(new PutObjectCommand({ Bucket: volume.bucket, Key, Body: 'not ours' }))
  t.same(await keys(server, folder), ['dir/', 'dir/other', 'own'])
  t.equal(Buffer.from((await download(server, folder, 'dir/other')).bytes).toString(), 'not ours')
  await eventually(async () => (await server.ask('GET', `/folders/${folder}`)).usage.files === 2)
  t.equal((await server.ask('GET', `/folders/${folder}`)).usage.bytes, 11)
})

t.test('the cleanup aborts multipart uploads that nobody goes on with', async (t) => {
  const { server, client, volume } = await start(t, { UPLOAD_CLEANUP_INTERVAL_SECONDS: '1', IDLE_TIMEOUT_SECONDS: '1' })
  const Key = `${volume.prefix}/vfolders/dead`
  await client.send(new CreateMultipartUploadCommand({ Bucket: volume.bucket, Key }))
  const line = await server.logged(({ msg }) => msg === 'leftovers removed', 20_000)
  t.match(line, { volume: 'default', files: 1 })
})

t.test('each command is logged under the request that it is for', async (t) => {
  const { server, volume } = await start(t, { LOG_LEVEL: 'debug' })
  const folder = await server.createFolder()
  const form = new FormData()
  form.append('file', new Blob([large]), 'file')
  const id = 'an-upload-1'
  await server.manager('POST', `/folders/upload?folder=${folder}`, form, { 'x-backend-request-id': id })
  await server.logged(({ msg, request_id }) => msg === 'request completed' && request_id === id)
  const lines = server.linesOf(id)
  const done = lines.filter(({ msg }) => msg === 's3 command done')
  const begun = lines.filter(({ msg }) => msg === 's3 command')
  const failed = lines.filter(({ msg }) => msg === 's3 command failed')
  t.equal(begun.length, done.length + failed.length)
  const parts = done.filter(({ s3_command }) => s3_command === 'UploadPart')
  t.equal(
    parts.reduce((sum, { size }) => sum + Number(size), 0),
    large.length,
  )
  t.match(parts[0], {
    level: 30,
    volume: 'default',
    bucket: volume.bucket,
    key: `${volume.prefix}/vfolders/${folder}/file`,
    attempts: 1,
    status: 200,
    duration_ms: Number,
    s3_request_id: String,
  })
  t.equal(new Set(done.map(({ s3_request_id }) => s3_request_id)).size, done.length, "they are the server's own")
  t.match(failed[0], { s3_command: 'HeadObject', error_code: 'NotFound', s3_request_id: String })
  for (const line of server.rawLines()) t.ok((line.match(/"request_id"/g)?.length ?? 1) === 1, line)
  const log = server.rawLines().join('\n')
  for (const secret of [volume.secretAccessKey, 'X-Amz-', 'AWS4-HMAC']) t.notMatch(log, secret)
})

t.test('a volume that redirects sends clients to the storage itself', needing('curl'), async (t) => {
  const { server } = await start(t)
  const folder = await server.createFolder({ volume: 'redirecting' })
  const path = 'dir/résumé "x".bin'
  await server.upload(folder, { [path.replace('"x"', '%22x%22')]: large })
  const [stored] = (await keys(server, folder)).filter((key) => !key.endsWith('/'))
  const url = await server.sign(folder, stored!)
  const redirect = await fetch(url, { redirect: 'manual', headers: { 'x-backend-request-id': 'redirected-1' } })
  t.equal(redirect.status, 307)
  t.equal(redirect.headers.get('x-backend-request-id'), 'redirected-1')
  t.equal(redirect.headers.get('cache-control'), 'no-store')
  const location = new URL(redirect.headers.get('location')!)
  t.ok(Number(location.searchParams.get('X-Amz-Expires')) <= 60)
  t.notMatch(server.rawLines().join('\n'), 'X-Amz-')

  const directory = await temporaryDirectory(t)
  const curl = (...args: string[]) => promisify(execFile)('curl', ['-fsSL', ...args], { cwd: directory })
  const { stdout } = await curl('-OJ', '-w', '%{filename_effective}', url)
  t.match(stdout, /^résumé .x.\.bin$|^résumé/)
  await writeFile(join(directory, 'broken'), large.subarray(0, 4_000_000))
  await curl('-C', '-', '-o', 'broken', url)
  const sums = await promisify(execFile)('sha256sum', ['broken', stdout], { cwd: directory })
  t.same(sums.stdout.match(/^[0-9a-f]{64}/gm), [sha256(large), sha256(large)])

  t.equal((await fetch(url, { method: 'HEAD' })).headers.get('content-length'), `${large.length}`)
  t.equal((await fetch(`${url}x`, { redirect: 'manual' })).status, 401)
  t.equal((await fetch(await server.sign(folder, 'missing'), { redirect: 'manual' })).status, 404)
  t.equal((await fetch(await server.sign(folder, 'dir'), { redirect: 'manual' })).status, 409)
  location.searchParams.set('X-Amz-Expires', '61')
  t.equal((await fetch(location)).status, 403, 'an altered URL fails')
  const short = await server.sign(folder, stored!, { expiresIn: 1 })
  const presigned = (await fetch(short, { redirect: 'manual' })).headers.get('location')!
  await eventually(async () => (await fetch(short, { redirect: 'manual' })).status === 401)
  await eventually(async () => (await fetch(presigned)).status === 403)
})

t.test('a direct URL leads past the service', async (t) => {
  const { server, volume } = await start(t)
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'content' })
  const url = await server.sign(folder, 'a.txt', { direct: true, disposition: 'inline', filename: 'b.txt' })
  t.ok(url.startsWith(volume.endpoint))
  const response = await fetch(url)
  t.equal(await response.text(), 'content')
  t.match(response.headers.get('content-type'), 'text/plain')
  t.equal(response.headers.get('content-disposition'), 'inline; filename="b.txt"')

  const local = await server.createFolder({ volume: 'local' })
  const sign = (folder: string, body: object) => server.manager('POST', `/folders/${folder}/signed-urls`, body)
  const missing = await sign(local, { operation: 'download', paths: ['a'], direct: true })
  t.equal(missing.status, 501)
  t.match(await missing.json(), { code: 'capability_missing' })
  t.equal((await sign(folder, { operation: 'archive', paths: [], direct: true })).status, 400)
})

t.test('a client sends a file to the storage itself, and the quota holds', async (t) => {
  const { server, volume, objects } = await start(t)
  const folder = await server.createFolder({ quota: { bytes: large.length + 10 } })
  const begin = (body: object) => server.manager('POST', `/folders/${folder}/direct-uploads`, body)
  const upload = (await (await begin({ path: 'dir/file', size: large.length })).json()) as Answer
  t.match(upload.parts, [{ method: 'PUT', start: 0 }, { end: large.length }])
  const refused = await begin({ path: 'other', size: 11 })
  t.equal(refused.status, 507, 'its room is reserved')
  t.match(await refused.json(), { code: 'quota_exceeded' })

  const [first, second] = upload.parts
  const send = ({ url }: Answer, body: Uint8Array<ArrayBuffer>) => fetch(url, { method: 'PUT', body })
  t.ok(first.url.startsWith(volume.endpoint))
  t.equal((await send(second, large.slice(second.start, second.end))).status, 200)
  const complete = () => fetch(upload.completeUrl, { method: 'POST' })
  const early = await complete()
  t.equal(early.status, 409)
  t.match(await early.json(), { code: 'upload_incomplete', bytes: 0, size: large.length })
  t.equal((await send(first, large.slice(first.start, first.end + 1))).status, 403, 'a byte more')
  t.equal((await send(first, large.slice(first.start, first.end))).status, 200)
  for (const _ of ['once', 'and again']) {
    const completed = await complete()
    t.equal(completed.status, 201)
    t.same(await completed.json(), { path: 'dir/file', size: large.length })
  }
  t.equal(sha256((await download(server, folder, 'dir/file')).bytes), sha256(large))
  t.match(await server.ask('GET', `/folders/${folder}`), { usage: { files: 1, bytes: large.length } })
  t.notMatch(server.rawLines().join('\n'), 'X-Amz-')

  const given = (await (await begin({ path: 'other', size: 10 })).json()) as Answer
  t.equal((await send(given.parts[0], large.slice(0, 10))).status, 200)
  t.equal((await fetch(`${given.completeUrl}x`, { method: 'DELETE' })).status, 404)
  t.equal((await fetch(given.completeUrl, { method: 'DELETE' })).status, 204)
  t.same(await objects('/uploads/'), [])
  t.equal((await begin({ path: 'other', size: 10 })).status, 201, 'its room is free again')

  const local = await server.createFolder({ volume: 'local' })
  const missing = await server.manager('POST', `/folders/${local}/direct-uploads`, { path: 'a', size: 1 })
  t.equal(missing.status, 501)
})
