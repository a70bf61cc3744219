import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { startReceiver } from '../receiver.ts'
import { type Answer, ended, startServer } from '../server.ts'

const receiver = await startReceiver(t)
const server = await startServer(t, { env: receiver.env })

t.test('a vfolder that is created and deleted, and the job that ends', async (t) => {
  const headers = { [requestIdHeader]: 'the-creation' }
  const { id: folder }: Answer = await (await server.manager('POST', '/folders', {}, headers)).json()
  const created = await receiver.told((event) => event.type === 'vfolder.created' && event.folder === folder)
  t.match(created, { requestId: 'the-creation', volume: 'default', data: { adopted: false } })
  const delivery = receiver.deliveries.find(({ event }) => event.id === created.id)
  t.ok(delivery?.isSigned)
  t.match(delivery?.headers, {
    'webhook-id': created.id,
    [requestIdHeader]: 'the-creation',
    'content-type': 'application/json',
  })
  await server.ask('POST', '/folders', { id: folder })
  const deletion = await server.manager('DELETE', `/folders/${folder}`, undefined, headers)
  const { job }: Answer = await deletion.json()
  await ended(server, job.id)
  const last = await receiver.told((event) => event.type === 'job.ended' && event.data.job.id === job.id)
  t.match(last, { folder, requestId: 'the-creation', data: { job: { kind: 'delete-vfolder', state: 'succeeded' } } })
  t.same(
    receiver.of(folder).map(({ type }) => type),
    ['vfolder.created', 'vfolder.deleted', 'job.ended'],
  )
  t.equal(new Set(receiver.events().map(({ cursor }) => cursor)).size, receiver.events().length)
})
