import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { openMetrics, type Scrape, scrape } from '../metrics.ts'
import { refusing } from '../refusing-s3.ts'
import { type Answer, ended, eventually, startServer, temporaryDirectory } from '../server.ts'
import { searchPath } from '../tools.ts'
import { create, patch, signTus, tus } from '../tus.ts'

const endpoint = await refusing(t, 500, 'InternalError')
const away = { backend: 's3', endpoint, bucket: 'bucket', accessKeyId: 'x', secretAccessKey: 'y', maxAttempts: 2 }
const volumes = { default: { backend: 'posix', root: await temporaryDirectory(t) }, away }
const env = { MANAGER_PORT: '0', MAX_TRANSFERS: '1', VOLUMES: JSON.stringify(volumes) }
const server = await startServer(t, { env })
await server.firstCount()

/** By how much a sum has grown between two scrapes. */
function growthOf(before: Scrape, after: Scrape) {
  return (name: string, labels: Record<string, string> = {}) =>
    after.sum(`storage_proxy_${name}`, labels) - before.sum(`storage_proxy_${name}`, labels)
}

/** The end of a request is counted a moment after its client has the answer. */
async function after(isThere: (scraped: Scrape) => boolean): Promise<Scrape> {
  return eventually(async () => {
    const scraped = await scrape(server)
    return isThere(scraped) && scraped
  })
}

t.test('the numbers are those of what was done', async (t) => {
  const files = await server.files()
  const before = await scrape(server)
  const url = await server.sign(files.folder, 'put.txt', { operation: 'upload' })
  t.equal((await fetch(url, { method: 'PUT', body: 'twelve bytes' })).status, 201)
  await files.upload({ 'one.txt': 'one', 'two.txt': 'two' })
  const download = await server.sign(files.folder, 'put.txt')
  for (let i = 0; i < 3; i++) t.equal(await (await fetch(download)).text(), 'twelve bytes')
  await (await server.manager('GET', `/folders/${files.folder}/content/one.txt`)).text()
  await (await fetch(await server.signArchive(files.folder, [], { archive: 'tar' }))).arrayBuffer()
  t.equal((await fetch(await server.sign(files.folder, 'missing'))).status, 404)
  const upload = await create(await signTus(files, 'tus.bin'), 10)
  t.equal((await patch(upload, 0, 'first')).status, 204)
  t.equal((await patch(upload, 5, 'later')).status, 204)
  t.equal((await tus('DELETE', await create(await signTus(files, 'ended.bin'), 10))).status, 204)

  const route = { route: '/download/:folder/*', method: 'GET' }
  const isCounted = (scraped: Scrape) =>
    growthOf(before, scraped)('http_request_duration_seconds_count', { ...route, status: '4xx' }) === 1
  const growth = growthOf(before, await after(isCounted))
  t.equal(growth('http_request_duration_seconds_count', { ...route, status: '2xx' }), 4, 'three and an archive')
  t.ok(growth('http_request_duration_seconds_sum', route) > 0)
  const volume = 'default'
  t.equal(growth('received_bytes_total', { volume, kind: 'put' }), 12)
  t.equal(growth('received_bytes_total', { volume, kind: 'form' }), 6)
  t.equal(growth('received_bytes_total', { volume, kind: 'tus' }), 10)
  t.equal(growth('sent_bytes_total', { volume, kind: 'download' }), 36)
  t.equal(growth('sent_bytes_total', { volume, kind: 'content' }), 3)
  t.ok(growth('sent_bytes_total', { volume, kind: 'archive' }) >= 18)
  const uploads = (event: string) => growth('uploads_total', { event, kind: 'tus' })
  t.same(['begun', 'resumed', 'finished', 'ended', 'expired'].map(uploads), [2, 1, 1, 1, 0])
  t.equal(growth('backend_call_duration_seconds_count', { volume, operation: 'appendUpload' }), 2)
  t.ok(growth('backend_call_failures_total', { volume, operation: 'read', code: 'entry_not_found' }) >= 1)
  t.ok(growth('database_statement_duration_seconds_count', { kind: 'select' }) > 0)
  t.ok(growth('database_commit_duration_seconds_count') > 0)
  t.equal(growth('event_loop_seconds_total', { state: 'active' }) > 0, true)
})

t.test('jobs, and what a sync finds', async (t) => {
  const files = await server.files()
  const before = await scrape(server)
  await writeFile(join(files.mount, 'past-the-service'), 'x'.repeat(100))
  const { job } = await server.ask('POST', `/folders/${files.folder}/sync`)
  t.equal((await ended(server, job.id)).state, 'succeeded')
  const kind = 'sync-quotas'
  const name = 'storage_proxy_job_attempt_duration_seconds_count'
  const ofJob = (scraped: Scrape) => scraped.sum(name, { kind, end: 'succeeded' })
  const last = await after((scraped) => ofJob(scraped) > ofJob(before))
  const growth = growthOf(before, last)
  t.equal(growth('quota_sync_drift_bytes_total', { volume: 'default' }), 100)
  t.equal(growth('quota_sync_drift_files_total', { volume: 'default' }), 1)
  t.equal(growth('quota_sync_drifted_vfolders_total'), 1)
  t.equal(last.sum('storage_proxy_jobs', { kind }), 0, 'none waits or runs')
  t.ok(last.series.includes('storage_proxy_jobs_oldest_queued_seconds{kind="sync-quotas"}'))
  t.equal(last.sum('storage_proxy_database_up'), 1)
})

t.test('open transfers, and those that are refused', async (t) => {
  const files = await server.files()
  const before = await scrape(server)
  const url = await server.sign(files.folder, 'slow', { operation: 'upload' })
  const abort = new AbortController()
  const body = new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode('some')) })
  const put = fetch(url, { method: 'PUT', body, duplex: 'half', signal: abort.signal } as RequestInit).catch(() => {})
  await after((scraped) => scraped.sum('storage_proxy_transfers_open') === 1)
  t.equal((await fetch(await server.sign(files.folder, 'other'))).status, 503)
  abort.abort()
  await put
  const last = await after((scraped) => scraped.sum('storage_proxy_transfers_open') === 0)
  t.equal(growthOf(before, last)('transfers_refused_total'), 1)
  const broken = { route: '/upload/:folder/*', method: 'PUT', status: 'broken' }
  t.equal(last.sum('storage_proxy_http_request_duration_seconds_count', broken), 1)
})

t.test('a storage that is away, and the commands that were sent to it', async (t) => {
  const isOpen = (scraped: Scrape) => scraped.sum('storage_proxy_volume_circuit_open', { volume: 'away' }) === 1
  const unwell = await eventually(async () => {
    await (await fetch(`${server.managerUrl}/readyz`)).text()
    const scraped = await scrape(server)
    return isOpen(scraped) && scraped
  })
  t.equal(unwell.sum('storage_proxy_volume_circuit_open', { volume: 'default' }), 0)
  const of = (what: string) => unwell.sum(`storage_proxy_storage_command_${what}`, { volume: 'away' })
  t.ok(of('duration_seconds_count') > 0)
  t.equal(of('attempts_total'), 2 * of('duration_seconds_count'), 'each was repeated once')
  t.equal(of('failures_total'), of('duration_seconds_count'))
  const failures = { volume: 'away', code: 'storage_unavailable' }
  t.ok(unwell.sum('storage_proxy_backend_call_failures_total', failures) >= 5)
})

t.test('no label has a path, an ID or what somebody makes up', async (t) => {
  /** All kinds of requests, with names that are new each time. */
  const visit = async () => {
    const files = await server.files()
    const name = `visited-${randomUUID()}`
    await files.upload({ [name]: 'x' })
    await (await fetch(await server.sign(files.folder, name))).text()
    for (const path of [`/folders/${randomUUID()}`, `/${name}`, `/jobs/${randomUUID()}`, `/folders/${name}`]) {
      await (await server.manager('GET', path)).text()
      await (await server.manager('PROPFIND', path)).text()
    }
    return [files.folder, name]
  }
  await visit()
  const before = await scrape(server)
  const made = (await Promise.all(Array.from({ length: 10 }, visit))).flat()
  await visit()
  const last = await scrape(server)
  const ours = ({ series }: Scrape) => series.filter((one) => one.startsWith('storage_proxy')).toSorted()
  const fresh = ours(last).filter((one) => !before.series.includes(one))
  t.same(
    fresh.filter((one) => !/^storage_proxy_(backend|database|job)_/.test(one)),
    [],
  )
  for (const value of made) t.notOk(last.text.includes(value))
  t.notMatch(last.text, /[0-9a-f]{8}-[0-9a-f]{4}-/, 'no ID of any kind')
  t.ok(ours(last).some((one) => one.includes('route="none"')))
})

t.test('promtool has nothing to say', async (t) => {
  const check = (args: string[], input = '') =>
    spawnSync('promtool', ['check', ...args], { input, encoding: 'utf8', env: { PATH: searchPath } })
  const metrics = check(['metrics'], (await scrape(server)).text)
  t.equal(metrics.stderr + metrics.stdout, '')
  t.equal(metrics.status, 0)
  const rules = fileURLToPath(new URL('../../deploy/prometheus/rules.yml', import.meta.url))
  t.match(check(['rules', rules]), { status: 0, stdout: /SUCCESS: \d+ rules found/ })
})

t.test('an alert that looks for what is new sees the first', async (t) => {
  const labels = 'end="failed",kind="clone-vfolder",code="no_space",volume="v"'
  const series = ['job_attempt_duration_seconds_count', 'backend_call_failures_total'].map((name) => ({
    series: `storage_proxy_${name}{${labels}}`,
    values: '_x5 1x40',
  }))
  const fires = (alertname: string, label: string, summary: string, description?: string) => [
    {
      eval_time: '8m',
      alertname,
      exp_alerts: [
        {
          exp_labels: { severity: 'warning', [label]: label === 'kind' ? 'clone-vfolder' : 'v' },
          exp_annotations: { summary, ...(description && { description }) },
        },
      ],
    },
    { eval_time: '30m', alertname, exp_alerts: [] },
  ]
  const hint = 'GET /jobs?state=failed lists them with their request IDs.'
  const alert_rule_test = [
    ...fires('StorageProxyJobsFail', 'kind', 'Jobs of kind clone-vfolder fail', hint),
    ...fires('StorageProxyVolumeFull', 'volume', 'Volume v is full'),
  ]
  const tests = [{ interval: '1m', input_series: series, alert_rule_test }]
  const path = join(await temporaryDirectory(t), 'tests.json')
  const rule_files = [fileURLToPath(new URL('../../deploy/prometheus/rules.yml', import.meta.url))]
  await writeFile(path, JSON.stringify({ rule_files, evaluation_interval: '1m', tests }))
  const tested = spawnSync('promtool', ['test', 'rules', path], { encoding: 'utf8', env: { PATH: searchPath } })
  t.equal(tested.status, 0, tested.stdout + tested.stderr)
})

t.test('each metric is in the docs, and each name of the rules is a metric', async (t) => {
  const read = (path: string) => readFile(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8')
  const { text } = await scrape(server)
  const told = [...text.matchAll(/^# TYPE (storage_proxy\w+)/gm)].map(([, name]) => name!)
  const docs = await read('docs/metrics.md')
  t.same(
    told.filter((name) => !docs.includes(`\`${name}\``)),
    [],
  )
  const used = [...(await read('deploy/prometheus/rules.yml')).matchAll(/storage_proxy_\w+/g)].map(([name]) => name)
  const known = told.flatMap((name) => [name, `${name}_bucket`, `${name}_count`, `${name}_sum`])
  t.same(
    used.filter((name) => !known.includes(name)),
    [],
  )
})

t.test('OpenMetrics has the request ID of an example for each duration', async (t) => {
  const files = await server.files()
  const list = async (id: string) => {
    const headers = { [requestIdHeader]: id }
    await (await server.manager('GET', `/folders/${files.folder}/files`, undefined, headers)).text()
  }
  const exemplified = (id: string) =>
    eventually(async () => (await scrape(server, openMetrics)).text.includes(`{request_id="${id}"}`))
  await list('y'.repeat(119))
  for (const id of ['an-example', 'x'.repeat(118)]) {
    await list(id)
    t.ok(await exemplified(id))
  }
  t.notMatch((await scrape(server, openMetrics)).text, /yyy/, 'what does not fit into its label set is left out')

  const { text } = await scrape(server, openMetrics)
  t.match(text, /# TYPE storage_proxy_uploads counter\n/)
  t.match(text, /\nstorage_proxy_uploads_total\{/)
  t.ok(text.endsWith('\n# EOF\n'))
  const typeOf = async (accept: string) =>
    (await fetch(`${server.managerUrl}/metrics`, { headers: { accept } })).headers.get('content-type')
  const prometheus = 'application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1'
  t.match(await typeOf(prometheus), /^application\/openmetrics-text; version=1.0.0/)
  t.match(await typeOf('text/plain'), /^text\/plain; version=0.0.4/)
  t.match(await typeOf('*/*'), /^text\/plain/)
  t.notMatch((await scrape(server)).text, 'request_id')
})

t.test('only at the address of the manager, and only where it is wanted', async (t) => {
  t.equal((await fetch(`${server.url}/metrics`)).status, 404)
  t.equal((await fetch(`${server.managerUrl}/metrics?x=1`)).status, 400)
  const off = await startServer(t, { env: { METRICS: 'off' } })
  t.equal((await fetch(`${off.url}/metrics`)).status, 404)
  const { paths }: Answer = await (await fetch(`${off.url}/openapi.json`)).json()
  t.notOk('/metrics' in paths)
  t.equal((await off.ask('POST', '/folders', {})).state, 'ready')
})

t.test('two workers are one to who scrapes, also when one of them dies', async (t) => {
  const workers = await startServer(t, { env: { WORKERS: '2' } })
  t.teardown(() => workers.end())
  const both = () =>
    eventually(async () => {
      const scraped = await scrape(workers)
      return scraped.sum('storage_proxy_processes') === 2 && scraped
    }, 60_000)
  await both()
  const folder = await workers.createFolder()
  const get = async () => {
    const headers = { connection: 'close' }
    t.equal((await workers.manager('GET', `/folders/${folder}`, undefined, headers)).status, 200)
  }
  for (let round = 0; round < 10; round++) await Promise.all([get(), get(), get(), get()])
  const requests = (scraped: Scrape) =>
    scraped.sum('storage_proxy_http_request_duration_seconds_count', { route: '/folders/:id', method: 'GET' })
  await eventually(async () => requests(await scrape(workers)) === 40)

  const [line] = workers.lines().filter(({ msg }) => msg === 'worker listens')
  process.kill(Number(line!.worker), 'SIGKILL')
  await workers.logged(({ msg }) => msg === 'worker ended')
  t.equal(requests(await scrape(workers)), 40, 'what the dead one has counted stays')
  const again = await both()
  t.equal(requests(again), 40)
  await get()
  await eventually(async () => requests(await scrape(workers)) === 41)
})
