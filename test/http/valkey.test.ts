import { randomUUID } from 'node:crypto'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, ended, eventually, startServer, temporaryDirectory } from '../server.ts'
import { startValkey } from '../valkey.ts'

const whole = t
const valkey = await startValkey(t)
const dataDir = await temporaryDirectory(t)
const env = { VALKEY_URL: valkey.url, LEASE_SECONDS: '1' }
let server = await startServer(t, { env, dataDir })

const quotaScope = `user:${randomUUID()}`
const toVfid = (folder: string) => `${quotaScope}/${folder.replaceAll('-', '')}`
/** As msgpack has texts of 32 to 255 bytes. */
const packed = (...texts: string[]) =>
  [0x90 + texts.length, ...texts.flatMap((text) => [0xd9, text.length, ...Buffer.from(text)])]
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')

async function start(method: string, path: string, requestId: string, body?: object): Promise<Answer> {
  const response = await server.manager(method, path, body, { [requestIdHeader]: requestId })
  return response.json()
}

t.test('the manager reads the end of a deletion and of a clone, with the request ID', async (t) => {
  const news: Answer[] = []
  const listener = valkey.connect()
  await listener.subscribe('events_all')
  listener.on('message', (_, message) => {
    const { payload, ...rest } = JSON.parse(message)
    news.push({ ...rest, payload: JSON.parse(payload) })
  })
  const folder = await server.createFolder({ quotaScope })
  await server.upload(folder, { a: 'content' })

  const { job, folder: copy } = await start('POST', `/folders/${folder}/clone`, 'the-clone')
  const payload = { vfid: toVfid(folder), dst_vfid: toVfid(copy.id) }
  t.same(await valkey.read(), [
    {
      name: 'vfolder_clone_success',
      source: 'storage',
      payload,
      metadata: { request_id: 'the-clone' },
      args: packed(payload.vfid, payload.dst_vfid),
    },
  ])
  await eventually(() => news.some(({ name }) => name === 'bgtask_done'))
  const metadata = JSON.stringify({ request_id: 'the-clone' })
  const ofJob = news.filter(({ payload }) => payload.task_id === job.id)
  t.match(ofJob[0], { name: 'bgtask_updated', source: 'storage', metadata, payload: { total_progress: 1 } })
  t.match(ofJob.at(-1), { name: 'bgtask_done', metadata, payload: { message: 'clone-vfolder succeeded' } })
  t.equal(Buffer.from(ofJob.at(-1).args, 'base64').subarray(3, 39).toString(), job.id)

  const { job: deletion } = await start('DELETE', `/folders/${folder}`, 'the-deletion')
  t.same(await valkey.read(), [
    {
      name: 'vfolder_deletion_success',
      source: 'storage',
      payload: { vfid: toVfid(folder) },
      metadata: { request_id: 'the-deletion' },
      args: packed(toVfid(folder)),
    },
  ])
  const client = valkey.connect()
  const last = await eventually(async () => (await client.get(`bgtask.${deletion.id}`)) ?? undefined)
  t.match(JSON.parse(last), { name: 'bgtask_done' }, 'who comes later learns it, too')
  const seconds = await client.ttl(`bgtask.${deletion.id}`)
  t.ok(seconds > 200 && seconds <= 300)
})

t.test('what happens while Valkey is away, and then the service, is told once both are back', async (t) => {
  await valkey.stop()
  await server.logged(({ msg }) => msg === 'Valkey is away')
  await valkey.start()
  const back = await server.logged(({ msg }) => msg === 'Valkey is back')
  const told = server.linesOf(String(back.request_id)).map(({ msg }) => msg)
  t.same(told, ['Valkey is away', 'Valkey is back'], 'no work that was done before has such lines')

  const folder = await server.createFolder({ quotaScope })
  await valkey.stop()
  const { job } = await start('DELETE', `/folders/${folder}`, 'the-outage')
  t.match(await ended(server, job.id), { state: 'succeeded' }, 'it holds up nobody')
  await eventually(async () => server.linesOf(String(back.request_id)).length === 3)
  await server.end('SIGKILL')
  server = await startServer(whole, { env, dataDir })
  await valkey.start()
  t.match(await valkey.read(), [{ payload: { vfid: toVfid(folder) }, metadata: { request_id: 'the-outage' } }])
})

t.test('a Valkey that is full is tried again', async (t) => {
  const client = valkey.connect()
  const folder = await server.createFolder({ quotaScope })
  await client.config('SET', 'maxmemory', '1')
  await start('DELETE', `/folders/${folder}`, 'the-full-one')
  await server.logged(({ msg, reason }) => msg.startsWith('events are not taken') && /OOM/.test(String(reason)))
  await client.config('SET', 'maxmemory', '0')
  t.match(await valkey.read(), [{ name: 'vfolder_deletion_success', metadata: { request_id: 'the-full-one' } }])
})
