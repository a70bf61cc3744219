import { randomUUID } from 'node:crypto'
import { chmod, copyFile, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Answer, eventually, type Server, startServer, temporaryDirectory } from '../server.ts'
import { startOnSmallDataDir } from '../small-volume.ts'
import { Strace } from '../strace.ts'
import { needing, withoutRoot } from '../tools.ts'

async function readiness(server: Server): Promise<Answer> {
  const response = await fetch(`${server.managerUrl}/readyz`)
  const { checks } = (await response.json()) as Answer
  return { status: response.status, database: checks[0], others: checks.slice(1) }
}

function failing(t: Test, { process, dataDir }: Server, injection: string): Promise<Strace> {
  const files = ['', '-wal'].map((suffix) => join(dataDir, `storage-proxy.sqlite${suffix}`))
  return Strace.attach(t, process, `inject=${injection}`, files)
}

/** What fails is told with its cause, `/readyz` names the database, and nobody is told anything else. */
async function assertUnavailable(t: Test, server: Server, reason: RegExp): Promise<void> {
  const response = await eventually(async () => {
    const response = await server.manager('POST', '/folders', { metadata: { note: 'x'.repeat(4000) } })
    return response.status !== 201 && response
  })
  const problem: Answer = await response.json()
  t.match([response.status, problem], [503, { code: 'database_unavailable', detail: reason }])
  t.match(response.headers.get('retry-after'), /^[1-9]\d*$/)
  const line = await server.logged(
    ({ code, level, err }) => code === 'database_unavailable' && level === 50 && reason.test(JSON.stringify(err)),
  )
  t.match(line, { err: { message: reason, errcode: Number } })
  t.match(await readiness(server), {
    status: 503,
    database: { name: 'database', healthy: false, reason },
    others: [{ healthy: true }],
  })
  t.notMatch(server.rawLines().join(), /no transaction is active/)
}

async function assertWell(t: Test, server: Server): Promise<void> {
  await eventually(async () => (await readiness(server)).status === 200)
  for (let count = 0; count < 20; count++) {
    t.equal((await server.manager('POST', '/folders', {})).status, 201)
  }
  t.equal((await readiness(server)).status, 200)
}

t.test('a full disk below the database', needing('mount', 'unshare', 'mounts of its own'), async (t) => {
  const { server, dataDir } = await startOnSmallDataDir(t, 2)
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'as it was' })
  const filler = join(dataDir, 'filler')
  await writeFile(filler, Buffer.alloc(4 * 1024 * 1024)).catch(() => {})

  await assertUnavailable(t, server, /disk is full/)
  const content = await server.manager('GET', `/folders/${folder}/content/a.txt`)
  t.equal(await content.text(), 'as it was', 'reading goes on')
  for (const _ of Array(5)) t.equal((await readiness(server)).status, 503, 'it stays red')
  const failed = await server.manager('POST', '/folders', { id: folder })
  t.ok([200, 503].includes(failed.status))

  await rm(filler)
  await assertWell(t, server)
  t.equal(await server.end(), 0)
})

for (const [call, reason] of [
  ['fsync,fdatasync', /disk I\/O error/],
  ['pwrite64', /disk I\/O error/],
] as const) {
  t.test(`${call} fails below the database`, needing('strace'), async (t) => {
    const server = await startServer(t, { env: { LEASE_SECONDS: '1' } })
    const strace = await failing(t, server, `${call}:error=EIO`)
    await assertUnavailable(t, server, reason)
    for (const _ of Array(5)) t.equal((await readiness(server)).status, 503, 'it stays red')
    await strace.detach()
    await assertWell(t, server)
    t.equal(await server.end(), 0)
  })
}

t.test('nobody has to ask: the process finds out by itself', needing('strace'), async (t) => {
  const server = await startServer(t, { env: { LEASE_SECONDS: '1' } })
  const strace = await failing(t, server, 'pwrite64:error=ENOSPC')
  await eventually(async () => (await readiness(server)).status === 503)
  t.match((await readiness(server)).database, { reason: /disk is full/ })
  await strace.detach()
  await assertWell(t, server)
})

t.test('a page of the database that is overwritten', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const first = await startServer(t, { dataDir })
  const metadata = { note: 'x'.repeat(3000) }
  for (let count = 0; count < 40; count++) await first.createFolder({ id: randomUUID(), metadata })
  await first.end()

  const path = join(dataDir, 'storage-proxy.sqlite')
  const file = await open(path, 'r+')
  t.teardown(() => file.close())
  // The last pages hold the vfolders.
  const from = (await stat(path)).size - 20 * 4096
  const before = Buffer.alloc(20 * 4096)
  await file.read(before, 0, before.length, from)
  await file.write(Buffer.alloc(before.length, 0xee), 0, before.length, from)
  const server = await startServer(t, { dataDir })
  const list = () => server.manager('GET', '/folders?limit=100')
  const response = await list()
  t.match([response.status, await response.json()], [503, { code: 'database_unavailable', detail: /malformed/ }])
  for (const _ of Array(3)) {
    t.match(await readiness(server), { status: 503, database: { healthy: false, reason: /malformed/ } })
  }
  await file.write(before, 0, before.length, from)
  await eventually(async () => (await readiness(server)).status === 200)
  t.equal((await list()).status, 200)
})

t.test('a file of the database that is not there any more, or not any more what it was', async (t) => {
  const server = await startServer(t, { env: { LEASE_SECONDS: '3600' } })
  const { folder } = await server.files()
  const signed = await server.sign(folder, 'small', { operation: 'upload' })
  const put = async () => {
    const response = await fetch(signed, { method: 'PUT', body: 'x' })
    return [response.status, await response.json()]
  }
  t.match(await put(), [201])
  const path = join(server.dataDir, 'storage-proxy.sqlite')
  const kept = join(server.dataDir, 'kept')
  const overwrite = async (bytes: Uint8Array) => {
    const file = await open(path, 'r+')
    await file.write(bytes, 0, bytes.length, 0)
    await file.close()
  }
  const faults: [what: string, reason: RegExp, begin: () => Promise<unknown>, end: () => Promise<unknown>][] = [
    ['removed', /is gone/, () => rename(path, kept), () => rename(kept, path)],
    [
      'replaced',
      /another file/,
      async () => {
        await rename(path, kept)
        await copyFile(kept, path)
      },
      () => rename(kept, path),
    ],
    ['its log removed', /is gone/, () => rename(`${path}-wal`, kept), () => rename(kept, `${path}-wal`)],
    [
      'overwritten',
      /was overwritten/,
      async () => {
        await copyFile(path, kept)
        await overwrite(Buffer.alloc(8192, 'garbage'))
      },
      async () => overwrite((await readFile(kept)).subarray(0, 8192)),
    ],
  ]
  for (const [what, reason, begin, end] of faults) {
    await t.test(what, async (t) => {
      await begin()
      // A file that comes right behind another one finds room set aside, and is stored.
      await sleep(200)
      t.match(await put(), [503, { code: 'database_unavailable', detail: reason }], 'nothing is acknowledged')
      await assertUnavailable(t, server, reason)
      await end()
      await assertWell(t, server)
      t.match((await put())[0], /20[01]/)
    })
  }
})

t.test('a database that cannot be used stops the start, and is named', async (t) => {
  const dataDir = await temporaryDirectory(t)
  await writeFile(join(dataDir, 'storage-proxy.sqlite'), 'this is no database, and long enough to be looked at')
  await t.rejects(startServer(t, { dataDir }), /DATA_DIR.*storage-proxy\.sqlite.*file is not a database/)
})

t.test('a database that may only be read stops the start', needing('setpriv'), async (t) => {
  const dataDir = await temporaryDirectory(t)
  await (await startServer(t, { dataDir })).end()
  await chmod(join(dataDir, 'storage-proxy.sqlite'), 0o444)
  await t.rejects(startServer(t, { dataDir, through: withoutRoot }), /DATA_DIR.*readonly database/)
})

t.test('a service that is stopped while its database fails', needing('strace'), async (t) => {
  const server = await startServer(t)
  const strace = await failing(t, server, 'pwrite64:error=ENOSPC')
  t.equal((await server.manager('POST', '/folders', {})).status, 503)
  await server.end()
  t.match(
    server.lines().find(({ level }) => level === 60),
    undefined,
  )
  await strace.detach()
})
