import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { nothing } from '../../backends/amount.ts'
import posix from '../../backends/posix/index.ts'
import access from '../../plugins/access/index.ts'
import config, { loadConfig } from '../../plugins/config.ts'
import { createLoggers } from '../../plugins/request/logging.ts'
import storage from '../../plugins/storage/index.ts'
import vfolders from '../../plugins/vfolders/index.ts'
import { beginDeletion, forget } from '../../plugins/vfolders/rows.ts'
import { putUsageRight } from '../../plugins/vfolders/usage.ts'
import work from '../../plugins/work/index.ts'
import { temporaryDirectory } from '../server.ts'

async function startVfolders(t: Test) {
  const app = Fastify(createLoggers('silent'))
  await app.register(config, { config: loadConfig({ DATA_DIR: await temporaryDirectory(t) }) })
  await app.register(access)
  await app.register(storage, { backends: [posix] })
  await app.register(work)
  await app.register(vfolders)
  await app.ready()
  t.teardown(() => app.close())
  const input = { id: randomUUID(), volume: app.volumes.get('default'), quota: { bytes: null, files: null } }
  const options = { ...input, quotaScope: null, metadata: {} }
  const { vfolder } = await app.vfolders.create(options, new AbortController().signal)
  return { app, id: vfolder.id, options }
}

t.test('a count of a vfolder that vanishes meanwhile', async (t) => {
  const { app, id } = await startVfolders(t)
  const count = async () => {
    await beginDeletion(app.database, id)
    await forget(app.database, id)
    return nothing
  }
  const counting = putUsageRight(app, id, count, new AbortController().signal)
  await t.rejects(counting, { code: 'vfolder_not_found' })
})

t.test('work that ends between the two looks at a vfolder', async (t) => {
  const { app, id } = await startVfolders(t)
  const reservation = await app.quotas.reserve(id, { bytes: 10, files: 1 })
  const { workIn } = app.quotas
  app.quotas.workIn = async (folder) => {
    await reservation.end()
    return workIn(folder)
  }
  const counts = [{ bytes: 3, files: 1 }, nothing]
  const found = await putUsageRight(app, id, async () => counts.shift()!, new AbortController().signal)
  t.match(found, { counted: nothing, exact: true })
  t.same(counts, [], 'it is counted again')
  t.match((await app.vfolders.get(id)).usage, nothing)
})

t.test('what is being moved or deleted is not taken for drift', async (t) => {
  const { app, id } = await startVfolders(t)
  const { signal } = new AbortController()
  const ten = { bytes: 10, files: 10 }
  const first = await app.quotas.reserve(id, ten)
  await first.end(ten)
  const deletion = await app.quotas.reserve(id, nothing)
  const halfWay = async () => ({ bytes: 4, files: 4 })
  t.match(await putUsageRight(app, id, halfWay, signal), { drift: nothing, exact: false, unsettled: true })
  t.match((await app.vfolders.get(id)).usage, ten)
  await deletion.end({ bytes: -7, files: -7 })
  const three = { bytes: 3, files: 3 }
  t.match((await app.vfolders.get(id)).usage, three)
  t.match(await putUsageRight(app, id, async () => three, signal), { drift: nothing, exact: true, unsettled: false })
})

t.test('a vfolder has room of its own while an upload into an earlier one of its ID is under way', async (t) => {
  const { app, id, options } = await startVfolders(t)
  const one = { bytes: 1, files: 1 }
  const old = await app.quotas.reserve(id, one, { kind: 'shared' })
  await beginDeletion(app.database, id)
  await forget(app.database, id)
  await app.quotas.forget(app.database, id)
  await t.rejects(old.confirm(), { code: 'vfolder_not_found' })

  await app.vfolders.create(options, new AbortController().signal)
  const next = await app.quotas.reserve(id, one, { kind: 'shared' })
  await next.confirm()
  await next.settle(one)
  await next.end()
  await old.end()
  t.match((await app.vfolders.get(id)).usage, one)
})
