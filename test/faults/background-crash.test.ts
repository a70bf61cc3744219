import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { s3Volume } from '../ceph/index.ts'
import { type Answer, ended, eventually, startServer, temporaryDirectory } from '../server.ts'

const dataDir = await temporaryDirectory(t)
const env = {
  VOLUMES: JSON.stringify({ default: { backend: 'posix', root: join(dataDir, 'default') }, s3: await s3Volume() }),
  LEASE_SECONDS: '1',
  UPLOAD_CLEANUP_INTERVAL_SECONDS: '3600',
}
let server = await startServer(t, { dataDir, env })

async function kill(): Promise<void> {
  await server.end('SIGKILL')
  server = await startServer(t, { dataDir, env })
}

/** A vfolder with so many files of 10 bytes in `tree`, and one beside it. */
async function fill(volume: string, files: number): Promise<{ folder: string; paths: string[] }> {
  const folder = await server.createFolder({ volume })
  const paths = Array.from({ length: files }, (_, index) => `tree/dir-${index % 10}/${index}`)
  await server.upload(folder, Object.fromEntries([...paths, 'rest'].map((path) => [path, path.padEnd(20)])))
  return { folder, paths }
}

async function inBackground(operation: string, folder: string, body: object, id: string): Promise<Answer> {
  const url = `/folders/${folder}/files/${operation}`
  const response = await server.manager('POST', url, { ...body, background: true }, { [requestIdHeader]: id })
  t.equal(response.status, 202)
  return ((await response.json()) as Answer).job
}

const jobOf = (id: string) => server.ask('GET', `/jobs/${id}`)

async function usageOf(folder: string): Promise<{ files: number; bytes: number }> {
  const { files, bytes } = (await server.ask('GET', `/folders/${folder}`)).usage
  return { files, bytes }
}

async function filesIn(folder: string): Promise<string[]> {
  const { entries } = await server.ask('GET', `/folders/${folder}/files?recursive=true&limit=10000`)
  return entries.filter(({ type }: Answer) => type === 'file').map(({ path }: Answer) => path)
}

/** The job that counts what an attempt had changed whose process died. */
async function recounted(folder: string, usage: object): Promise<void> {
  await eventually(async () => {
    const { jobs } = await server.ask('GET', `/jobs?folder=${folder}&kind=sync-quotas`)
    return jobs.every(({ finishedAt }: Answer) => finishedAt !== null)
  })
  t.same(await usageOf(folder), usage)
}

for (const volume of ['default', 's3']) {
  t.test(`kill -9 at any instant of a deletion: ${volume}`, async (t) => {
    const { folder, paths } = await fill(volume, 300)
    const job = await inBackground(
      'delete',
      folder,
      { paths: [...paths.slice(150), 'tree'], recursive: true },
      'delete-1',
    )
    await eventually(async () => (await jobOf(job.id)).progress.filesDone > 0)
    await sleep(Math.random() * 100)
    await kill()
    const { result, ...deleted } = await ended(server, job.id, 120_000)
    t.match(deleted, { state: 'succeeded', requestId: 'delete-1' })
    t.equal(result.deletedCount + result.missingCount, 151)
    t.same(await filesIn(folder), ['rest'])
    await recounted(folder, { files: 1, bytes: 20 })
  })

  t.test(`kill -9 at any instant of a move: ${volume}`, async (t) => {
    const { folder, paths } = await fill(volume, 200)
    const target = await server.createFolder({ volume })
    const job = await inBackground('move', folder, { from: 'tree', to: 'tree', toFolder: target }, 'move-1')
    await sleep(Math.random() * (volume === 's3' ? 600 : 60))
    await kill()
    t.match(await ended(server, job.id, 120_000), { state: 'succeeded', requestId: 'move-1' })
    t.same((await filesIn(target)).toSorted(), paths.toSorted())
    t.same(await filesIn(folder), ['rest'])
    await recounted(folder, { files: 1, bytes: 20 })
    await recounted(target, { files: 200, bytes: 4000 })
  })
}

t.test('one process goes on with what another one has begun', async (t) => {
  const other = await startServer(t, { dataDir, env })
  const { folder, paths } = await fill('default', 300)
  const job = await inBackground('delete', folder, { paths }, 'delete-2')
  const isBegun = ({ msg, job_id }: { msg: string; job_id?: unknown }) => msg === 'job started' && job_id === job.id
  const runner = await eventually(() => [server, other].find((one) => one.lines().some(isBegun)))
  await eventually(async () => (await jobOf(job.id)).progress.filesDone > 0)
  await runner.end('SIGKILL')
  if (runner === server) server = other
  const { state, history } = await ended(server, job.id, 120_000)
  t.equal(state, 'succeeded')
  t.match(history, [
    { number: 1, outcome: 'lost', startedAt: String, endedAt: history[1].startedAt },
    { number: 2, outcome: 'succeeded', endedAt: String },
  ])
  t.not(history[0].process, history[1].process)
  t.match(
    server.linesOf('delete-2').filter(({ job_id }) => job_id === job.id),
    [{ msg: 'job started' }, { msg: 'job succeeded' }],
  )
  await recounted(folder, { files: 1, bytes: 20 })
})
