import { mkdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import t from 'tap'
import { s3Volume } from '../ceph/index.ts'
import { startFaultyProxy } from '../faulty-proxy.ts'
import {
  type Answer,
  ended,
  eventually,
  formOf,
  managerToken,
  type Server,
  startServer,
  temporaryDirectory,
} from '../server.ts'

// A change of many entries in one request: the client gives up, or the process is killed, and the call is repeated.

const authorization = `Bearer ${managerToken}`

/** Sends a call as a client that may go away. */
function begin(server: Server, path: string, body: object) {
  const headers = { authorization, 'content-type': 'application/json' }
  const call = request(server.managerUrl + path, { method: 'POST', headers })
  call.on('error', () => {})
  call.end(JSON.stringify(body))
  return call
}

async function sync(server: Server, folder: string): Promise<void> {
  await ended(server, (await server.ask('POST', `/folders/${folder}/sync`)).job.id)
}

async function usageOf(server: Server, folder: string): Promise<{ files: number; bytes: number }> {
  const { files, bytes } = (await server.ask('GET', `/folders/${folder}`)).usage
  return { files, bytes }
}

/** What the vfolder really has. */
async function stored(server: Server, folder: string): Promise<{ files: number; bytes: number }> {
  const accept = { accept: 'application/x-ndjson' }
  const response = await server.manager('GET', `/folders/${folder}/files?recursive=true`, undefined, accept)
  const entries = (await response.text())
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
  const files = entries.filter(({ type }) => type === 'file')
  return { files: files.length, bytes: files.reduce((total, { size }) => total + size, 0) }
}

/** The counters come to what is stored, without anybody asking for a count. */
async function countsRight(server: Server, ...folders: string[]): Promise<void> {
  for (const folder of folders) {
    await eventually(async () => {
      const [counted, really] = [await usageOf(server, folder), await stored(server, folder)]
      return counted.files === really.files && counted.bytes === really.bytes
    }, 60_000)
  }
}

/** The counters are right as soon as no request works any more: nobody has counted in between. */
async function isExact(server: Server, folder: string, work: string): Promise<void> {
  const jobs = async () => (await server.ask('GET', `/jobs?folder=${folder}&kind=sync-quotas`)).jobs.length
  const before = await jobs()
  await eventually(() => server.lines().some(({ msg }) => msg === 'request aborted'))
  await countsRight(server, folder)
  t.equal(await jobs(), before, `${work} needs no count`)
}

const server = await startServer(t)

t.test('a deletion of many paths that its client gives up is told of truly when it is repeated', async (t) => {
  const { folder, mount } = await server.files()
  for (let file = 0; file < 5000; file++) writeFileSync(join(mount, `file-${file}`), 'content')
  await sync(server, folder)
  const paths = Array.from({ length: 5000 }, (_, file) => `file-${file}`)
  const call = begin(server, `/folders/${folder}/files/delete`, { paths })
  await eventually(async () => (await stored(server, folder)).files < 5000)
  call.destroy()
  await isExact(server, folder, 'a deletion')
  const { files } = await stored(server, folder)
  t.ok(files > 0, 'it ends when nobody waits for it any more')
  const { deleted, missing } = await server.ask('POST', `/folders/${folder}/files/delete`, { paths })
  t.same([deleted.length, missing.length], [files, 5000 - files])
  t.same(await usageOf(server, folder), { files: 0, bytes: 0 })
  const again = await server.ask('POST', `/folders/${folder}/files/delete`, { paths })
  t.same([again.deleted.length, again.missing.length], [0, 5000])
})

t.test('a huge directory vanishes as a whole and is counted, though its client gives up', async (t) => {
  const server = await startServer(t)
  const { folder, mount } = await server.files()
  mkdirSync(join(mount, 'tree'))
  for (let file = 0; file < 8000; file++) writeFileSync(join(mount, `tree/${file}`), 'content')
  await sync(server, folder)
  const call = begin(server, `/folders/${folder}/files/delete`, { paths: ['tree'], recursive: true })
  await eventually(async () => (await server.manager('GET', `/folders/${folder}/files/stat?path=tree`)).status === 404)
  call.destroy()
  await countsRight(server, folder)
  t.same(await usageOf(server, folder), { files: 0, bytes: 0 })
  t.same((await server.ask('GET', `/jobs?folder=${folder}`)).jobs.length, 1, 'nobody has counted again')
})

/** A service on S3, through a proxy that can make it fail. */
async function startOnS3(t: { teardown(fn: () => unknown): void }, idleSeconds = 120) {
  const volume = await s3Volume()
  const proxy = await startFaultyProxy(t, volume.endpoint)
  const dataDir = await temporaryDirectory(t)
  const env = {
    VOLUMES: JSON.stringify({ default: { ...volume, endpoint: proxy.url } }),
    LEASE_SECONDS: '1',
    IDLE_TIMEOUT_SECONDS: `${idleSeconds}`,
    UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
  }
  const start = () => startServer(t, { dataDir, env })
  return { server: await start(), start, proxy }
}

/** Puts files of one byte into `tree`, past the service, which then counts them. */
async function fill(server: Server, folder: string, files: number): Promise<void> {
  const { accessKeyId, secretAccessKey, endpoint, region } = await s3Volume()
  const credentials = { accessKeyId, secretAccessKey }
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials })
  const { bucket: Bucket, prefix } = await server.ask('GET', `/folders/${folder}/mount`)
  const numbers = Array.from({ length: files }).keys()
  const put = async () => {
    for (const file of numbers)
      await client.send(new PutObjectCommand({ Bucket, Key: `${prefix}tree/${file}`, Body: 'x' }))
  }
  await Promise.all(Array.from({ length: 32 }, put))
  client.destroy()
  await sync(server, folder)
}

t.test('a directory of S3 that is deleted in part is counted as it is', async (t) => {
  const { server, proxy } = await startOnS3(t)
  const folder = await server.createFolder()
  await fill(server, folder, 1100)
  const body = { paths: ['tree'], recursive: true }
  let deletions = 0
  proxy.fault = ({ method, url }) =>
    method === 'POST' && url?.includes('delete') && deletions++ > 0 ? 'internal-error' : undefined
  const failed = await server.manager('POST', `/folders/${folder}/files/delete`, body)
  t.match(await failed.json(), { status: 503, code: 'storage_unavailable', deleted: [] })
  const left = await stored(server, folder)
  t.ok(left.files > 0 && left.files < 1100)
  t.same(await usageOf(server, folder), left)
  proxy.fault = () => undefined
  t.same((await server.ask('POST', `/folders/${folder}/files/delete`, body)).deleted, ['tree'])
  t.same(await usageOf(server, folder), { files: 0, bytes: 0 })
})

t.test('a move of a directory on S3 to another vfolder, whose process is killed', { timeout: 240_000 }, async (t) => {
  // The cleanup goes on with it, unless the same call does.
  const { proxy, start, ...started } = await startOnS3(t, 1)
  let { server } = started
  proxy.fault = ({ headers }) => (headers['x-amz-copy-source'] !== undefined ? 'late' : undefined)
  const [folder, toFolder] = [await server.createFolder(), await server.createFolder()]
  await fill(server, folder, 300)
  const body = { from: 'tree', to: 'moved', toFolder }
  begin(server, `/folders/${folder}/files/move`, body)
  await eventually(async () => (await stored(server, toFolder)).files > 0)
  await server.end('SIGKILL')
  server = await start()
  const repeated = await server.manager('POST', `/folders/${folder}/files/move`, body)
  t.ok([200, 404].includes(repeated.status), `${repeated.status}: or the cleanup has finished it`)
  await eventually(async () => (await stored(server, folder)).files === 0)
  t.same(await stored(server, toFolder), { files: 300, bytes: 300 })
  await countsRight(server, folder, toFolder)
})

t.test('a move on S3 that is broken off, and repeated when that was counted, leaves the counters right', async (t) => {
  const { server, proxy } = await startOnS3(t)
  for (const toFolder of [undefined, await server.createFolder()]) {
    const folder = await server.createFolder()
    await fill(server, folder, 3)
    const body = { from: 'tree', to: 'moved', toFolder }
    const folders = [folder, toFolder ?? folder]
    proxy.fault = ({ method, url }) => (method === 'POST' && url?.includes('delete') ? 'internal-error' : undefined)
    t.equal((await server.manager('POST', `/folders/${folder}/files/move`, body)).status, 503)
    await countsRight(server, ...folders)
    t.equal((await usageOf(server, folders[1]!)).files, toFolder === undefined ? 6 : 3, 'the copies are there, too')
    proxy.fault = () => undefined
    await server.ask('POST', `/folders/${folder}/files/move`, body)
    await countsRight(server, ...folders)
    t.same(await usageOf(server, folders[1]!), { files: 3, bytes: 3 })
  }
})

t.test('a move that would make a key that S3 does not take is refused before anything is moved', async (t) => {
  const { server } = await startOnS3(t)
  const folder = await server.createFolder()
  const long = `tree/${'a'.repeat(250)}/${'b'.repeat(250)}/${'c'.repeat(250)}/file`
  await server.upload(folder, { [long]: 'content', 'tree/short': 'content' })
  const to = 'd'.repeat(200)
  const response = await server.manager('POST', `/folders/${folder}/files/move`, { from: 'tree', to })
  t.match([response.status, await response.json()], [400, { code: 'invalid_path' }])
  t.equal((await server.manager('GET', `/folders/${folder}/files/stat?path=${to}`)).status, 404)
  t.match(await stored(server, folder), { files: 2 })
})

t.test('of a form whose client gives up the files before stay, and the form may be sent again', async (t) => {
  const { folder, usage } = await server.files().then((files) => ({ folder: files.folder, usage: () => files.usage() }))
  const boundary = 'boundary'
  const part = (name: string, content: string) =>
    `--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="${name}"\r\n\r\n${content}\r\n`
  const headers = { authorization, 'content-type': `multipart/form-data; boundary=${boundary}` }
  const call = request(`${server.managerUrl}/folders/upload?folder=${folder}`, { method: 'POST', headers })
  call.on('error', () => {})
  for (const name of ['1', '2', '3']) call.write(part(name, `file ${name}`))
  call.write(part('4', 'half').slice(0, -10))
  await eventually(async () => (await stored(server, folder)).files === 3)
  await sleep(50)
  call.destroy()
  await eventually(async () => (await server.staged()).length === 0)
  t.same(await stored(server, folder), { files: 3, bytes: 18 })
  t.same(await usage(), { files: 3, bytes: 18 })

  const all = Object.fromEntries(Array.from({ length: 10 }, (_, file) => [`${file + 1}`, `file ${file + 1}`]))
  const again: Answer = await server.ask('POST', `/folders/upload?folder=${folder}`, formOf(all))
  t.equal(again.files.length, 10)
  t.same(await usage(), { files: 10, bytes: 61 })
  t.same(await stored(server, folder), { files: 10, bytes: 61 })
})
