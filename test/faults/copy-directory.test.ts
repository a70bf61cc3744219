import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual, promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { s3Volume } from '../ceph/index.ts'
import { type Answer, ended, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'

const run = promisify(execFile)

const plugin = fileURLToPath(new URL('../plain-backend.ts', import.meta.url))

/** Settings with one volume that has no step by which a directory is copied. */
function withVolume(backend: string, dataDir: string): Record<string, string> {
  return {
    BACKEND_PLUGINS: plugin,
    VOLUMES: JSON.stringify({ default: { backend, root: join(dataDir, 'volumes/default') } }),
    LEASE_SECONDS: '1',
    UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
  }
}

async function start(t: { teardown(fn: () => unknown): void }, backend = 'plain') {
  const dataDir = await temporaryDirectory(t)
  const env = withVolume(backend, dataDir)
  return { server: await startServer(t, { dataDir, env }), dataDir, env }
}

/** A vfolder with ten directories in `tree`, with files of 10 bytes, which are counted. */
async function fill(server: Server, folder: string, files: number): Promise<string> {
  const mount = await server.mountOf(folder)
  const tree = join(mount, 'tree')
  for (let directory = 0; directory < 10; directory++) {
    mkdirSync(join(tree, `dir-${directory}`), { recursive: true })
    for (let file = 0; file < files / 10; file++) {
      writeFileSync(join(tree, `dir-${directory}/file-${file}`), `${directory} ${file}`.padEnd(10))
    }
  }
  await ended(server, (await server.ask('POST', `/folders/${folder}/sync`)).job.id)
  return mount
}

async function copy(server: Server, folder: string, body: object): Promise<[status: number, answer: Answer]> {
  const response = await server.manager('POST', `/folders/${folder}/files/copy`, body)
  return [response.status, await response.json()]
}

async function usageOf(server: Server, folder: string): Promise<{ files: number; bytes: number }> {
  const { files, bytes } = (await server.ask('GET', `/folders/${folder}`)).usage
  return { files, bytes }
}

/** The vfolders that the volume has, those that nobody is shown as well. */
async function foldersOn(dataDir: string): Promise<string[]> {
  const names = await readdir(join(dataDir, 'volumes/default/folders'), { recursive: true })
  return names.filter((name) => name.split('/').length === 3)
}

t.test('a job copies a directory where the storage cannot, and it is there at once', async (t) => {
  const { server, dataDir } = await start(t)
  const { folder, mount, upload, usage } = await filesOf(server)
  await upload({ 'tree/a/1': 'one', 'tree/2': 'two', single: 'file' })
  mkdirSync(join(mount, 'tree/empty'))
  t.match(await copy(server, folder, { from: 'single', to: 'copied' }), [201, { path: 'copied' }])

  const headers = { [requestIdHeader]: 'copy-1' }
  const body = { from: 'tree', to: 'deep/copy' }
  const response = await server.manager('POST', `/folders/${folder}/files/copy`, body, headers)
  const { job } = (await response.json()) as Answer
  t.match([response.status, response.headers.get('location')], [202, `/jobs/${job.id}`])
  t.match(job, { kind: 'copy-directory', folder, requestId: 'copy-1' })
  t.match(await ended(server, job.id), {
    state: 'succeeded',
    progress: { filesDone: 2, filesTotal: 2, bytesDone: 6, bytesTotal: 6 },
    result: { source: folder, from: 'tree', to: 'deep/copy', files: 2, bytes: 6, changedCount: 0 },
  })
  await run('diff', ['-r', join(mount, 'tree'), join(mount, 'deep/copy')])
  t.same(await usage(), { files: 6, bytes: 20 })
  t.match(await copy(server, folder, body), [409, { code: 'entry_exists' }])
  t.match(await copy(server, folder, { from: 'tree', to: 'tree/inside' }), [409, { code: 'invalid_operation' }])
  t.equal((await foldersOn(dataDir)).length, 1, 'what it was staged in is gone')
  t.equal((await server.ask('GET', '/folders')).folders.length, 1)
  const lines = server.linesOf('copy-1').filter(({ job_id }) => job_id === job.id)
  t.match(
    lines.map(({ msg }) => msg),
    ['job started', 'job succeeded'],
  )

  const other = await server.createFolder()
  const across = await copy(server, folder, { from: 'tree', to: 'tree', toFolder: other })
  t.match(await ended(server, across[1].job.id), { state: 'succeeded', folder: other })
  t.same(await usageOf(server, other), { files: 2, bytes: 6 })
  await run('diff', ['-r', join(mount, 'tree'), join(await server.mountOf(other), 'tree')])
})

t.test('the same call gets the same job, and another copy to that name is refused', async (t) => {
  const { server } = await start(t)
  const { folder, usage } = await filesOf(server)
  const mount = await fill(server, folder, 3000)
  mkdirSync(join(mount, 'other'))
  const calls = await Promise.all([1, 2, 3].map(() => copy(server, folder, { from: 'tree', to: 'copy' })))
  const ids = new Set(calls.map(([status, { job }]) => `${status} ${job.id}`))
  t.equal(ids.size, 1)
  t.match(await copy(server, folder, { from: 'other', to: 'copy' }), [409, { code: 'entry_exists' }])
  t.match(await ended(server, calls[0]![1].job.id), { state: 'succeeded' })
  t.same(await usage(), { files: 6000, bytes: 60_000 })
})

t.test('a copy that is cancelled or fails leaves nothing, and its room is free again', async (t) => {
  const { server, dataDir } = await start(t)
  const folder = await server.createFolder({ quota: { files: 6000 } })
  const mount = await fill(server, folder, 3000)
  const nothingIsLeft = async () => {
    await eventually(async () => (await foldersOn(dataDir)).length === 1)
    t.same(await readdir(mount), ['tree'])
    t.same(await usageOf(server, folder), { files: 3000, bytes: 30_000 })
  }

  const [, { job }] = await copy(server, folder, { from: 'tree', to: 'copy' })
  await eventually(async () => (await server.ask('GET', `/jobs/${job.id}`)).progress.filesDone > 0)
  await server.ask('DELETE', `/jobs/${job.id}`)
  t.match(await ended(server, job.id), { state: 'cancelled' })
  await nothingIsLeft()

  const added = join(mount, 'tree/dir-0/added')
  writeFileSync(added, 'too much')
  const [, refused] = await copy(server, folder, { from: 'tree', to: 'copy' })
  t.match(await ended(server, refused.job.id), { state: 'failed', error: { code: 'quota_exceeded' } })
  await nothingIsLeft()
  await run('rm', [added])

  const [, again] = await copy(server, folder, { from: 'tree', to: 'copy' })
  t.match(await ended(server, again.job.id), { state: 'succeeded' })
  t.same(await usageOf(server, folder), { files: 6000, bytes: 60_000 }, 'no room is set aside for the others any more')
})

t.test('a vfolder or a directory that is removed during its copy', async (t) => {
  const { server, dataDir } = await start(t)
  for (const removed of ['source', 'target', 'directory']) {
    const folder = await server.createFolder()
    await fill(server, folder, 2000)
    const other = await server.createFolder()
    const [, { job }] = await copy(server, folder, { from: 'tree', to: 'copy', toFolder: other })
    await eventually(async () => (await server.ask('GET', `/jobs/${job.id}`)).progress.filesDone > 0)
    if (removed === 'directory') {
      await server.ask('POST', `/folders/${folder}/files/delete`, { paths: ['tree'], recursive: true })
    } else {
      await server.ask('DELETE', `/folders/${removed === 'source' ? folder : other}`)
    }
    const { state, error } = await ended(server, job.id)
    t.match([state, error.code], ['failed', /^(?:vfolder|entry)_not_found$/], removed)
    for (const id of [folder, other]) await server.manager('DELETE', `/folders/${id}`)
    await eventually(async () => (await foldersOn(dataDir)).length === 0)
  }
})

for (const backend of ['plain', 'piecemeal', 's3']) {
  t.test(`kill -9 at any instant of a copy: ${backend}`, { timeout: 300_000 }, async (t) => {
    const dataDir = await temporaryDirectory(t)
    const settings = withVolume(backend, dataDir)
    const env = backend === 's3' ? { ...settings, VOLUMES: JSON.stringify({ default: await s3Volume() }) } : settings
    let server = await startServer(t, { dataDir, env })
    const files = backend === 'plain' ? 1000 : 300
    const folder = await server.createFolder()
    const content = Array.from(
      { length: files },
      (_, index) => [`tree/dir-${index % 10}/${index}`, `${index}`] as const,
    )
    await server.upload(folder, Object.fromEntries(content))
    const before = await usageOf(server, folder)
    const list = async (path: string): Promise<string[]> => {
      const response = await server.manager('GET', `/folders/${folder}/files?path=${path}&recursive=true&limit=10000`)
      const { entries = [] } = (await response.json()) as Answer
      return entries.map((entry: Answer) => `${entry.path.slice(path.length)} ${entry.size}`)
    }

    const [, { job }] = await copy(server, folder, { from: 'tree', to: 'copy' })
    // A job whose process dies five times without a step forward is given up.
    for (let kill = 0; kill < (backend === 'plain' ? 3 : 1); kill++) {
      await sleep(Math.random() * 800)
      await server.end('SIGKILL')
      server = await startServer(t, { dataDir, env })
      const { attempts, finishedAt } = await eventually(async () => {
        const now = await server.ask('GET', `/jobs/${job.id}`)
        return (now.attempts > kill + 1 || now.finishedAt !== null) && now
      })
      if (backend === 'plain') t.ok([0, files + 10].includes((await list('copy')).length), `attempt ${attempts}`)
      if (finishedAt !== null) break
      t.match(await copy(server, folder, { from: 'tree', to: 'copy' }), [202, { job: { id: job.id } }])
    }
    t.match(await ended(server, job.id, 120_000), { state: 'succeeded', error: undefined })
    t.ok(isDeepStrictEqual(await list('copy'), await list('tree')), 'the same entries')
    t.same(await usageOf(server, folder), { files: 2 * before.files, bytes: 2 * before.bytes })
    if (backend !== 's3') t.equal((await foldersOn(dataDir)).length, 1)
    t.match(await copy(server, folder, { from: 'tree', to: 'copy' }), [409, { code: 'entry_exists' }])
  })
}

t.test('a copy that begins to appear is not cancelled any more, and appears to the end', async (t) => {
  const { server, env, dataDir } = await start(t, 'piecemeal')
  const folder = await server.createFolder()
  const mount = await fill(server, folder, 500)
  const [, { job }] = await copy(server, folder, { from: 'tree', to: 'copy' })
  await eventually(async () => (await readdir(mount)).includes('copy'))
  const refused = await server.manager('DELETE', `/jobs/${job.id}`)
  t.match(await refused.json(), { status: 409, code: 'job_not_cancellable' })
  await server.end()
  const next = await startServer(t, { dataDir, env })
  t.match(await ended(next, job.id), { state: 'succeeded' })
  await run('diff', ['-r', join(mount, 'tree'), join(mount, 'copy')])
  t.same(await usageOf(next, folder), { files: 1000, bytes: 10_000 })
})

async function filesOf(server: Server) {
  const files = await server.files()
  const { folder, mount } = files
  return { folder, mount, upload: files.upload.bind(files), usage: files.usage.bind(files) }
}
