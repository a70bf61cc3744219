import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { changeDatabase, onlySqlite, openDatabase } from '../database.ts'
import { type Answer, startServer, temporaryDirectory } from '../server.ts'

t.test('health', async (t) => {
  const root = await temporaryDirectory(t)
  const volumes = {
    one: { backend: 'posix', root: join(root, 'one') },
    two: { backend: 'posix', root: join(root, 'two') },
  }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })
  const readiness = async (): Promise<[number, Answer]> => {
    const response = await fetch(`${server.url}/readyz`)
    return [response.status, await response.json()]
  }
  const checks = ['database', 'volume:one', 'volume:two'].map((name) => ({ name, healthy: true }))
  t.same(await readiness(), [200, { status: 'ready', checks }])

  await t.test('a volume whose root vanishes is named, with the reason; the process lives', async (t) => {
    await rename(volumes.two.root, join(root, 'gone'))
    const [status, { checks: found }] = await readiness()
    t.equal(status, 503)
    t.same(found.slice(0, 2), checks.slice(0, 2))
    t.match(found[2], { name: 'volume:two', healthy: false, reason: /it may not be mounted/ })
    t.match(await server.ask('GET', '/volumes/two'), { health: { healthy: false, reason: /it may not be mounted/ } })
    t.match(await server.ask('GET', '/volumes/one'), { health: { healthy: true } })
    t.equal((await fetch(`${server.url}/livez`)).status, 200)
    await server.createFolder({ volume: 'one' })
    const refused = await server.manager('POST', '/folders', { volume: 'two' })
    t.match(await refused.json(), { status: 503, code: 'volume_unavailable' }, 'nothing is made where it was')

    await rename(join(root, 'gone'), volumes.two.root)
    t.equal((await readiness())[0], 200, 'and is well again when it is back')
  })

  await t.test('a database that is broken too', async (t) => {
    await changeDatabase(server.dataDir, 'DROP TABLE vfolders')
    const [status, { checks: found }] = await readiness()
    t.equal(status, 503)
    t.match(found[0], { name: 'database', healthy: false, reason: /no such table|does not exist/ })
    t.same(found.slice(1), checks.slice(1))
    t.equal((await fetch(`${server.url}/livez`)).status, 200)
  })
})

t.test('a database that somebody else holds', onlySqlite, async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  await files.upload({ 'a.txt': 'content' })
  const database = openDatabase(server.dataDir)
  t.teardown(() => database.close())
  database.exec('BEGIN IMMEDIATE')
  const refused = await server.manager('POST', '/folders', {})
  t.match([refused.status, await refused.json()], [503, { code: 'database_busy', detail: /held by somebody else/ }])
  t.match(await server.logged(({ code }) => code === 'database_busy'), { err: { message: 'database is locked' } })
  for (const [operation, body] of [
    ['move', { from: 'a.txt', to: 'b.txt' }],
    ['delete', { paths: ['a.txt'] }],
  ] as const) {
    const asked = performance.now()
    t.match(await files.post(operation, body), [503, { code: 'database_busy' }])
    t.ok(performance.now() - asked < 3500, `${operation}: nothing is waited for twice`)
  }
  database.exec('ROLLBACK')
  t.equal((await server.manager('POST', '/folders', {})).status, 201, 'it passes')
})

t.test('a database that somebody else holds for a while', onlySqlite, async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  await files.upload({ 'a.txt': 'content' })
  const download = await server.sign(files.folder, 'a.txt')
  const database = openDatabase(server.dataDir)
  t.teardown(() => database.close())
  database.exec('BEGIN IMMEDIATE')
  let held = true
  const released = sleep(1500).then(() => {
    database.exec('ROLLBACK')
    held = false
  })
  const created = Array.from({ length: 20 }, () => server.manager('POST', '/folders', {}))
  const readiness = fetch(`${server.url}/readyz`)

  let slowest = 0
  while (held) {
    const asked = performance.now()
    t.equal((await fetch(`${server.url}/livez`)).status, 200)
    slowest = Math.max(slowest, performance.now() - asked)
    t.equal(await (await fetch(download)).text(), 'content')
    await sleep(20)
  }
  await released
  t.ok(slowest < 1000, `/livez took ${slowest} ms at most`)
  const { status, checks }: Answer = await (await readiness).json()
  t.equal(status, 'unavailable')
  t.match(checks, [
    { name: 'database', healthy: false, reason: /held by somebody else/ },
    { name: 'volume:default', healthy: true },
  ])
  for (const response of await Promise.all(created)) t.equal(response.status, 201, 'what waited is done')
  t.equal((await fetch(`${server.url}/readyz`)).status, 200)
})
