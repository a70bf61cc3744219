import { once } from 'node:events'
import { rm, truncate } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { Receiver, type Span } from '../otlp.ts'
import { ended, eventually, Files, startServer, temporaryDirectory } from '../server.ts'
import { begin } from '../slow-client.ts'

const receiver = await Receiver.start(t)

/** What a server of S3 was sent, which says that there is nothing. */
const commands: IncomingHttpHeaders[] = []
const s3 = createServer((request, answer) => {
  commands.push(request.headers)
  answer.writeHead(404, { 'content-type': 'application/xml' }).end('<Error><Code>NoSuchKey</Code></Error>')
}).listen(0, '127.0.0.1')
await once(s3, 'listening')
t.teardown(() => {
  s3.closeAllConnections()
  s3.close()
})

const directory = await temporaryDirectory(t)
const endpoint = `http://127.0.0.1:${(s3.address() as AddressInfo).port}`
const volumes = {
  default: { backend: 'hanging', root: join(directory, 'default') },
  other: { backend: 'posix', root: join(directory, 'other') },
  away: { backend: 's3', endpoint, bucket: 'bucket', accessKeyId: 'x', secretAccessKey: 'y', maxAttempts: 1 },
}
const env = {
  BACKEND_PLUGINS: fileURLToPath(new URL('../hanging-backend.ts', import.meta.url)),
  VOLUMES: JSON.stringify(volumes),
  LEASE_SECONDS: '2',
  OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
  OTEL_EXPORTER_OTLP_TIMEOUT: '500',
  OTEL_BSP_SCHEDULE_DELAY: '50',
  OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
}
const dataDir = join(directory, 'data')
const server = await startServer(t, { env, dataDir })

const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
const caller = '00f067aa0ba902b7'

/** The spans of a request, once its own one is there, which ends last. */
async function spansOf(requestId: string, name: RegExp): Promise<{ root: Span; spans: Span[] }> {
  return eventually(() => {
    const spans = receiver.of(requestId)
    const root = spans.find((span) => name.test(span.name))
    return root && { root, spans }
  })
}

async function filesOn(volume: string): Promise<Files> {
  const folder = await server.createFolder({ volume })
  return new Files(server, folder, await server.mountOf(folder))
}

const files = await filesOn('default')
await files.upload({ 'a.txt': 'a' })

t.test('a request is a part of the trace of its caller, and what it asks for is a part of it', async (t) => {
  const url = await server.sign(files.folder, 'a.txt')
  const headers = { [requestIdHeader]: 'traced', traceparent: `00-${trace}-${caller}-01` }
  t.equal(await (await fetch(url, { headers })).text(), 'a')
  const { root, spans } = await spansOf('traced', /^GET/)
  t.match(root, { name: 'GET /download/:folder/*', traceId: trace, parentId: caller, kind: 2, status: 0 })
  t.match(root.attributes, {
    'http.request.method': 'GET',
    'http.response.status_code': 200,
    'http.route': '/download/:folder/*',
    'url.path': `/download/${files.folder}/a.txt`,
    'client.address': '127.0.0.1',
  })
  t.match(root.attributes.origin_request_id, /^[0-9a-f-]{36}$/)
  t.match(root.resource, {
    'service.name': 'storage-proxy',
    'service.instance.id': /^[0-9a-f-]{36}$/,
    'deployment.environment.name': 'test',
  })
  const read = spans.find(({ name }) => name === 'backend read')
  t.match(read, { traceId: trace, parentId: root.spanId })
  t.match(read?.attributes, { volume: 'default', folder: files.folder, path: 'a.txt' })

  const lines = server.linesOf('traced')
  t.same(new Set(lines.map((line) => line.trace_id)), new Set([trace]))
  const completed = server.rawLines().filter((line) => line.includes('"traced"') && line.includes('request completed'))
  t.equal(completed.length, 1)
  t.equal(completed[0]?.split('"trace_id"').length, 2, 'it has the trace once')
  t.match(JSON.parse(completed[0]!), { span_id: root.spanId })
  t.notOk(JSON.stringify(receiver.spans).includes(new URL(url).searchParams.get('token')!), 'no token is told')
})

t.test('without a caller each request begins a trace, also on one connection', async (t) => {
  const ids = ['alone-1', 'alone-2']
  for (const id of ids) await (await server.manager('GET', '/volumes', undefined, { [requestIdHeader]: id })).text()
  const roots = await Promise.all(ids.map(async (id) => (await spansOf(id, /^GET/)).root))
  t.same(
    roots.map(({ parentId }) => parentId),
    ['', ''],
  )
  t.not(roots[0]?.traceId, roots[1]?.traceId)
  const completed = await server.logged((line) => line.request_id === 'alone-1' && line.msg === 'request completed')
  t.match(completed, { trace_id: roots[0]!.traceId, span_id: roots[0]!.spanId })
})

t.test('a refusal is an answer; a client that goes away gets none', async (t) => {
  const missing = await server.sign(files.folder, 'missing')
  t.equal((await fetch(missing, { headers: { [requestIdHeader]: 'missing' } })).status, 404)
  const { root, spans } = await spansOf('missing', /^GET/)
  t.match(root, { status: 0, attributes: { 'http.response.status_code': 404 } })
  const read = spans.find(({ name }) => name === 'backend read')
  t.match(read, { status: 0, attributes: { 'error.type': 'entry_not_found' } })

  await files.upload({ 'large.bin': '' })
  await truncate(join(files.mount, 'large.bin'), 64 * 1024 * 1024)
  const response = await begin(await server.sign(files.folder, 'large.bin'), 'goes-away')
  response.destroy()
  t.match((await spansOf('goes-away', /^GET/)).root, { status: 2, attributes: { 'error.type': 'aborted' } })
})

t.test('what is not sampled, and who looks after the service, is not traced', async (t) => {
  const ask = async (path: string, id: string, headers = {}) => {
    await (await server.manager('GET', path, undefined, { [requestIdHeader]: id, ...headers })).text()
  }
  await ask('/volumes', 'unsampled', { traceparent: `00-${trace}-${caller}-00` })
  await ask('/readyz', 'probe')
  await ask('/volumes', 'after')
  await spansOf('after', /^GET/)
  t.same([...receiver.of('unsampled'), ...receiver.of('probe')], [])
  const line = await server.logged(({ msg, request_id }) => msg === 'request completed' && request_id === 'unsampled')
  t.equal(line.trace_id, trace)
  t.notOk('span_id' in line)
  t.notOk(
    receiver.spans.some(({ attributes }) => attributes.request_id === undefined),
    'each has a request ID',
  )
})

t.test('commands to the storage are parts of the call that sends them, and tell the server so', async (t) => {
  const id = 'to-s3'
  const body = { volume: 'away' }
  await (await server.manager('POST', '/folders', body, { [requestIdHeader]: id })).text()
  const { root, spans } = await spansOf(id, /^POST/)
  const command = spans.find(({ name }) => name.startsWith('command '))
  t.match(command, { traceId: root.traceId, kind: 3 })
  const call = spans.find(({ spanId }) => spanId === command?.parentId)
  t.match(call, { name: /^backend /, parentId: root.spanId })
  const sent = commands.filter(({ traceparent }) => traceparent === `00-${root.traceId}-${call?.spanId}-01`)
  t.ok(sent.length > 0)
  for (const { authorization } of sent) t.notMatch(authorization, /SignedHeaders=[^,]*traceparent/)
})

t.test('a job is linked to the request that started it, also on another process', async (t) => {
  await files.upload({ 'hangs-in-list': 'x' })
  const headers = { [requestIdHeader]: 'starts-a-job' }
  const answer = await server.manager('POST', `/folders/${files.folder}/clone`, { volume: 'other' }, headers)
  const { job } = (await answer.json()) as { job: { id: string } }
  const { root } = await spansOf('starts-a-job', /^POST/)
  await server.logged(({ msg, job_id }) => msg === 'job started' && job_id === job.id)
  await server.end('SIGKILL')

  await rm(join(files.mount, 'hangs-in-list'))
  const next = await startServer(t, { env, dataDir })
  t.match(await ended(next, job.id), { state: 'succeeded', attempts: 2 })
  const { root: attempt, spans } = await spansOf('starts-a-job', /^job/)
  t.match(attempt, { name: 'job clone-vfolder', traceId: root.traceId, parentId: root.spanId, kind: 5, status: 0 })
  t.match(attempt.attributes, { job_id: job.id, attempt: 2 })
  t.same(attempt.links, [{ traceId: root.traceId, spanId: root.spanId }])
  t.not(attempt.resource['service.instance.id'], root.resource['service.instance.id'])
  t.ok(spans.some(({ name, parentId }) => name === 'backend list' && parentId === attempt.spanId))
  const started = next.lines().find(({ msg, job_id }) => msg === 'job started' && job_id === job.id)
  t.match(started, { trace_id: root.traceId, span_id: attempt.spanId })

  await t.test('a receiver that is away hurts nobody', async (t) => {
    const ask = async () => t.equal((await next.manager('GET', '/volumes')).status, 200)
    receiver.status = 503
    await ask()
    const away = ({ msg }: { msg: string }) => msg === 'traces cannot be delivered'
    t.match(await next.logged(away), { level: 40 })
    for (let i = 0; i < 5; i++) await ask()
    receiver.status = 200
    await eventually(async () => {
      await ask()
      return next.lines().some(({ msg }) => msg === 'traces are delivered again')
    })
    t.equal(next.lines().filter(away).length, 1)
    receiver.stop()
    await ask()
    t.equal(await next.end(), 0)
  })
})
