import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eventually, type Server, startServer, temporaryDirectory } from '../server.ts'
import { needing, withOwnMounts } from '../tools.ts'

/** More than what waits of the log, by requests whose lines are long. */
async function fillLog(t: Test, server: Server): Promise<void> {
  const path = `/nothing/${'x'.repeat(7000)}`
  let slowest = 0
  for (let round = 0; round < 40; round++) {
    await Promise.all(Array.from({ length: 20 }, async () => t.equal((await server.manager('GET', path)).status, 404)))
    const asked = performance.now()
    t.equal((await fetch(`${server.url}/livez`)).status, 200)
    slowest = Math.max(slowest, performance.now() - asked)
  }
  t.ok(slowest < 1000, `/livez took ${slowest} ms at most`)
}

/** The lines that came later are whole, and one of them says how many are lacking. */
async function assertToldOf(t: Test, server: Server): Promise<void> {
  const told = await server.logged(({ msg }) => msg === 'lines of the log were dropped')
  t.match(told, { level: 40, request_id: String })
  t.ok(Number(told.dropped) > 0)
  const output = server.rawLines().join('\n')
  t.equal(output.match(/the log does not move, and lines are dropped/g)?.length, 1)
  t.match(output, `the log moves again; ${told.dropped} lines were dropped`)
  await server.manager('GET', '/volumes', undefined, { 'x-backend-request-id': 'after' })
  await server.logged(({ request_id }) => request_id === 'after')
}

const env = { LOG_LEVEL: 'trace' }

for (const workers of ['1', '2']) {
  t.test(`a log of ${workers} processes that nobody reads`, async (t) => {
    const server = await startServer(t, { env: { ...env, WORKERS: workers } })
    server.process.stdout?.pause()
    await fillLog(t, server)
    server.process.stdout?.resume()
    await assertToldOf(t, server)

    server.process.stdout?.pause()
    await fillLog(t, server)
    const asked = performance.now()
    t.equal(await server.end(), 0, 'SIGTERM ends it')
    t.ok(performance.now() - asked < 5000, 'in time')
  })
}

t.test('a pipe for the log and the errors of two processes that nobody reads', async (t) => {
  const through = ['sh', '-c', 'exec "$@" 2>&1', 'sh']
  const server = await startServer(t, { env: { ...env, WORKERS: '2' }, through })
  server.process.stdout?.pause()
  await fillLog(t, server)
  t.equal(await server.end(), 0)
})

t.test('a log whose reader is gone', async (t) => {
  const server = await startServer(t, { env })
  server.process.stdout?.destroy()
  await fillLog(t, server)
  t.equal(await server.end(), 0)
})

t.test('a log on a disk that is full', needing('mounts of its own'), async (t) => {
  const dataDir = await temporaryDirectory(t)
  const disk = join(dataDir, 'log')
  await mkdir(disk)
  // Under unshare the shell becomes the server, so both have one process ID.
  const script = `mount -t tmpfs -o size=16m none '${disk}' && touch '${disk}/log' || exit
    tail --pid=$$ -f '${disk}/log' &
    exec "$@" >'${disk}/log'`
  const server = await startServer(t, { dataDir, env, through: [...withOwnMounts, 'sh', '-c', script, 'sh'] })
  const ballast = join(`/proc/${server.process.pid}/root`, disk, 'ballast')
  await t.rejects(writeFile(ballast, new Uint8Array(16 * 1024 * 1024)), { code: 'ENOSPC' })
  await fillLog(t, server)
  await eventually(() => server.rawLines().some((line) => /dropped: .*ENOSPC/.test(line)))
  await rm(ballast)
  await assertToldOf(t, server)
  t.equal(await server.end(), 0)
})
