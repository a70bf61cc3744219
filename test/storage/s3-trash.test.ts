import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { MiB, patternBytes } from '../../backends/conformance/bytes.ts'
import { s3Volume } from '../ceph/index.ts'
import { type Answer, ended, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

const contents: Record<string, Uint8Array<ArrayBuffer>> = {
  'data/large.bin': new Uint8Array(patternBytes(11 * MiB)),
  ...Object.fromEntries(
    Array.from({ length: 60 }, (_, n) => [`data/sub/file-${n}`, new Uint8Array(patternBytes(100 + n))]),
  ),
}
const digests = Object.fromEntries(Object.entries(contents).map(([path, bytes]) => [path, sha256(bytes)]))

async function listed(server: Server, folder: string): Promise<Answer[]> {
  const { entries } = await server.ask('GET', `/folders/${folder}/files?recursive=true&limit=1000`)
  return entries
}

/** SHA-256 by path, of all files. */
async function digestsOf(server: Server, folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const { path, type } of await listed(server, folder)) {
    if (type !== 'file') continue
    const response = await fetch(await server.sign(folder, path))
    found[path] = sha256(new Uint8Array(await response.arrayBuffer()))
  }
  return found
}

const trashOf = async (server: Server, folder: string): Promise<Answer[]> =>
  (await server.ask('GET', `/folders/${folder}/trash`)).entries

t.test('on S3', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const volume = await s3Volume()
  const env = {
    VOLUMES: JSON.stringify({ default: volume }),
    TRASH_RETENTION_SECONDS: '86400',
    UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
    IDLE_TIMEOUT_SECONDS: '1',
    LEASE_SECONDS: '1',
  }
  const start = () => startServer(t, { dataDir, env })
  let server = await start()
  const folder = await server.createFolder()
  await server.upload(folder, contents)

  await t.test('a deleted vfolder comes back with its times and etags', async (t) => {
    const before = await listed(server, folder)
    t.match(await server.ask('DELETE', `/folders/${folder}`), { state: 'trashed' })
    t.equal((await server.manager('GET', `/folders/${folder}/files`)).status, 404)
    t.match(await server.ask('POST', `/folders/${folder}/restore`), { state: 'ready' })
    t.same(await listed(server, folder), before)
    t.same(await digestsOf(server, folder), digests)
  })

  await t.test('a deleted directory comes back', async (t) => {
    await server.ask('POST', `/folders/${folder}/files/delete`, { paths: ['data'], recursive: true })
    t.same(await listed(server, folder), [])
    const [entry] = await trashOf(server, folder)
    t.match(entry, { path: 'data', type: 'directory', files: 61 })
    t.same((await server.ask('GET', '/volumes/default/orphans')).orphans, [])
    t.match(await server.ask('POST', `/folders/${folder}/trash/${entry.id}/restore`, {}), { type: 'directory' })
    t.same(await digestsOf(server, folder), digests)
    t.same(await trashOf(server, folder), [])
    t.match((await server.ask('GET', `/folders/${folder}`)).usage, { files: 61 })
  })

  await t.test('a directory that was on its way when the process was killed is lost in no part', async (t) => {
    const copies = () =>
      server.lines().filter(({ s3_command, key }) => s3_command === 'CopyObject' && String(key).includes('/trash/'))
        .length
    const before = copies()
    const deleting = server
      .ask('POST', `/folders/${folder}/files/delete`, { paths: ['data'], recursive: true })
      .catch(() => {})
    // In the middle: some objects have a copy in the trash.
    await eventually(() => copies() > before)
    await sleep(Math.random() * 100)
    await server.end('SIGKILL')
    await deleting
    server = await start()
    const entry = await eventually(async () => (await trashOf(server, folder))[0])
    t.match(entry, { path: 'data', type: 'directory', files: 61 })
    t.same(await listed(server, folder), [])
    await server.ask('POST', `/folders/${folder}/trash/${entry.id}/restore`, {})
    t.same(await digestsOf(server, folder), digests)
    await eventually(async () => (await server.ask('GET', `/folders/${folder}`)).usage.files === 61)
  })

  await t.test('a vfolder that is removed for good takes its trash along', async (t) => {
    await server.ask('POST', `/folders/${folder}/files/delete`, { paths: ['data/large.bin'] })
    const { job } = await server.ask('DELETE', `/folders/${folder}?permanent=true`)
    t.match(await ended(server, job.id), { state: 'succeeded', result: { files: 61 } })
  })
})
