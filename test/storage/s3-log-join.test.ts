import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { MiB, patternBytes } from '../../backends/conformance/bytes.ts'
import { cephLog, cephServer } from '../ceph/index.ts'
import { Receiver } from '../otlp.ts'
import { eventually, startServer, temporaryDirectory } from '../server.ts'

/** A line of Ceph's ops log. */
interface Operation {
  trans_id: string
  operation: string
  uri: string
  http_status: string
}

t.test("the log of one upload is joined with the storage's own", async (t) => {
  const volume = { backend: 's3', ...(await cephServer()), prefix: `test-${randomUUID()}` }
  const receiver = await Receiver.start(t)
  const traced = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_BSP_SCHEDULE_DELAY: '50' }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify({ default: volume }), ...traced } })
  const folder = await server.createFolder()
  const form = new FormData()
  form.append('file', new Blob([new Uint8Array(patternBytes(11 * MiB))]), 'file')
  const id = 'tour-1'
  await server.manager('POST', `/folders/upload?folder=${folder}`, form, { 'x-backend-request-id': id })
  await server.logged(({ msg, request_id }) => msg === 'request completed' && request_id === id)
  const ours = server.linesOf(id).filter(({ s3_command }) => s3_command !== undefined)
  const root = await eventually(() => receiver.of(id).find(({ parentId }) => parentId === ''))
  const commands = receiver.of(id).filter(({ name }) => name.startsWith('command '))
  const names = commands.map(({ attributes }) => attributes.command)
  t.same(names.toSorted(), ours.map(({ s3_command }) => s3_command).toSorted(), 'a span for each command')
  t.same(new Set(commands.map(({ traceId }) => traceId)), new Set([root.traceId]))

  // As docs/s3.md says it.
  const directory = await temporaryDirectory(t)
  await writeFile(join(directory, 'service.log'), server.rawLines().join('\n'))
  const command = `grep '"request_id":"tour-1"' service.log | grep -o '"s3_request_id":"[^"]*"' | cut -d'"' -f4 |
    grep -Ff - '${cephLog()}'; true`
  const theirs = await eventually(async () => {
    const { stdout } = await promisify(execFile)('sh', ['-c', command], { cwd: directory, maxBuffer: 16 * MiB })
    // Two operations that end at once may share a line of Ceph's.
    const operations = stdout.trim().replaceAll('}{', '}\n{').split('\n')
    const found = operations.filter((line) => ours.some(({ s3_request_id }) => line.includes(`${s3_request_id}`)))
    return found.length === ours.length && found.map((line): Operation => JSON.parse(line))
  })
  for (const { s3_command, s3_request_id, status, key } of ours) {
    const line = theirs.find(({ trans_id }) => trans_id === s3_request_id)
    t.equal(line?.http_status, String(status), `${s3_command} ${s3_request_id}`)
    if (key !== undefined) t.match(line?.uri, `/${key}`)
  }
  const stored = theirs.filter(({ operation }) => operation === 'put_obj')
  t.equal(stored.length, 2, 'both parts')
  t.ok(theirs.some(({ operation }) => operation === 'complete_multipart'))
})
