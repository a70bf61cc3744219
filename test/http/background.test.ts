import { mkdirSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, ended, eventually, type Files, startServer, temporaryDirectory } from '../server.ts'

const dataDir = await temporaryDirectory(t)
const env = {
  BACKEND_PLUGINS: fileURLToPath(new URL('../plain-backend.ts', import.meta.url)),
  VOLUMES: JSON.stringify({
    default: { backend: 'posix', root: join(dataDir, 'default') },
    slow: { backend: 'piecemeal', root: join(dataDir, 'slow') },
  }),
  LEASE_SECONDS: '1',
  UPLOAD_CLEANUP_INTERVAL_SECONDS: '60',
}
const server = await startServer(t, { dataDir, env })

/** Files of 10 bytes in ten directories, which are counted. */
async function fill(mount: string, files: number, folder: string): Promise<void> {
  for (let directory = 0; directory < 10; directory++) {
    mkdirSync(join(mount, `tree/dir-${directory}`), { recursive: true })
    for (let file = 0; file < files / 10; file++) {
      writeFileSync(join(mount, `tree/dir-${directory}/${file}`), `${directory} ${file}`.padEnd(10))
    }
  }
  t.match(await ended(server, (await server.ask('POST', `/folders/${folder}/sync`)).job.id), { state: 'succeeded' })
}

async function inBackground(operation: string, folder: string, body: object, id?: string): Promise<Answer> {
  const headers: Record<string, string> = id === undefined ? {} : { [requestIdHeader]: id }
  const url = `/folders/${folder}/files/${operation}`
  const response = await server.manager('POST', url, { ...body, background: true }, headers)
  return { status: response.status, location: response.headers.get('location'), ...((await response.json()) as object) }
}

async function usageOf(folder: string): Promise<{ files: number; bytes: number }> {
  const { files, bytes } = (await server.ask('GET', `/folders/${folder}`)).usage
  return { files, bytes }
}

const jobOf = (id: string) => server.ask('GET', `/jobs/${id}`)

t.test('a deletion by a job, under the request ID of its call', async (t) => {
  const files: Files = await server.files()
  const { folder, mount } = files
  await fill(mount, 300, folder)
  await files.upload({ single: 'bytes', 'full/file': 'x' })
  const body = { paths: ['tree', 'none', 'single'], recursive: true }
  const { status, location, job } = await inBackground('delete', folder, body, 'delete-1')
  t.match([status, location], [202, `/jobs/${job.id}`])
  t.match(job, { kind: 'delete-entries', folder, requestId: 'delete-1' })
  t.match(await ended(server, job.id), {
    state: 'succeeded',
    attempts: 1,
    progress: { filesDone: 301, filesTotal: null, bytesDone: 3005 },
    result: { files: 301, bytes: 3005, deletedCount: 2, missing: ['none'], missingCount: 1 },
  })
  t.same(await readdir(mount), ['full'])
  t.same(await files.usage(), { files: 1, bytes: 1 })
  const lines = server.lines().filter((line) => line.job_id === job.id)
  t.match(
    lines.map(({ msg, request_id }) => [msg, request_id]),
    [
      ['job started', 'delete-1'],
      ['job succeeded', 'delete-1'],
    ],
  )

  const refused = await inBackground('delete', folder, { paths: ['gone', 'full'] })
  t.match(await ended(server, refused.job.id), { state: 'failed', error: { code: 'directory_not_empty' } })
  t.same(await readdir(mount), ['full'], 'no directory goes with what is in it unless that was asked for')
  const nowhere = await inBackground('delete', '0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11', { paths: ['x'] })
  t.match(nowhere, { status: 404, code: 'vfolder_not_found' })
})

t.test('a deletion that is cancelled leaves what it has not come to', async (t) => {
  const { folder, mount } = await server.files()
  await fill(mount, 500, folder)
  const paths = Array.from({ length: 500 }, (_, index) => `tree/dir-${index % 10}/${Math.floor(index / 10)}`)
  const { job } = await inBackground('delete', folder, { paths })
  await eventually(async () => (await jobOf(job.id)).progress.filesDone > 0)
  await server.ask('DELETE', `/jobs/${job.id}`)
  const { state, progress } = await ended(server, job.id)
  t.equal(state, 'cancelled')
  const left = (await readdir(join(mount, 'tree'), { recursive: true })).length - 10
  t.ok(left > 0 && left < 500)
  t.equal(progress.filesDone, 500 - left)
  t.same(await usageOf(folder), { files: left, bytes: 10 * left })

  await server.ask('POST', `/jobs/${job.id}/retry`)
  const { history, ...again } = await ended(server, job.id)
  t.match(again, { state: 'succeeded', progress: { filesDone: 500 }, result: { deletedCount: 500, missingCount: 0 } })
  t.match(history, [{ outcome: 'cancelled' }, { outcome: 'succeeded' }])
  t.same(await usageOf(folder), { files: 0, bytes: 0 })
})

t.test('a move by a job', async (t) => {
  const files: Files = await server.files()
  const { folder, mount } = files
  await fill(mount, 100, folder)
  await files.upload({ single: 'bytes' })
  const target = await server.createFolder()
  const { status, location, job } = await inBackground('move', folder, { from: 'tree', to: 'a/b', toFolder: target })
  t.match([status, location], [202, `/jobs/${job.id}`])
  t.match(await ended(server, job.id), {
    kind: 'move-entry',
    folder,
    state: 'succeeded',
    result: { from: 'tree', to: 'a/b', toFolder: target, type: 'directory' },
  })
  t.same(await readdir(mount), ['single'])
  t.equal((await readdir(join(await server.mountOf(target), 'a/b'))).length, 10)
  t.same(
    [await usageOf(folder), await usageOf(target)],
    [
      { files: 1, bytes: 5 },
      { files: 100, bytes: 1000 },
    ],
  )
  const refused = async (body: object, expected: object) => t.match(await inBackground('move', folder, body), expected)
  await refused({ from: 'none', to: 'x' }, { status: 404, code: 'entry_not_found' })
  await refused({ from: 'single', to: 'single/x' }, { status: 409, code: 'invalid_operation' })
  await refused({ from: 'single', to: 'a/b', toFolder: target }, { status: 409, code: 'entry_exists' })
  const elsewhere = await server.createFolder({ volume: 'slow' })
  await refused({ from: 'single', to: 'x', toFolder: elsewhere }, { status: 409, code: 'invalid_operation' })
})

t.test('a move entry by entry tells how far it is, is one job, and is not cancelled on its way', async (t) => {
  const folder = await server.createFolder({ volume: 'slow' })
  const mount = await server.mountOf(folder)
  await fill(mount, 300, folder)
  const body = { from: 'tree', to: 'moved' }
  const { job } = await inBackground('move', folder, body)
  await eventually(async () => (await readdir(mount)).includes('moved'))
  t.equal((await inBackground('move', folder, body)).job.id, job.id)
  const refused = await server.manager('DELETE', `/jobs/${job.id}`)
  t.match(await refused.json(), { status: 409, code: 'job_not_cancellable' })
  t.match(await ended(server, job.id), {
    state: 'succeeded',
    progress: { filesDone: 300, filesTotal: 300, bytesDone: 3000, bytesTotal: 3000 },
  })
  t.same(await readdir(mount), ['moved'])
})
