import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { readDatabase } from '../database.ts'
import { eventually, type Server, startServer, temporaryDirectory } from '../server.ts'
import { assertNothingLeft, create, type Headers, patch, sha256, signTus, startPatch, tus } from '../tus.ts'

const content = randomBytes(8_000_000)

/** The URL of an upload, at another process. */
function at(server: Server, url: string): string {
  return server.url + url.slice(new URL(url).origin.length)
}

/** Waits until a request of this process writes to an upload. */
function underWay(server: Server): Promise<unknown> {
  return eventually(async () => (await server.openFiles()).some((file) => file.includes('/uploads/')))
}

t.test('a process with many uploads that wait for bytes asks the database for little', async (t) => {
  const server = await startServer(t, { env: { LOG_LEVEL: 'trace' } })
  const files = await server.files()
  const url = await signTus(files, 'a')
  const uploads = 200
  for (let count = 0; count < uploads; count++) {
    const { socket } = startPatch(await create(url, 100), 0, 100)
    t.teardown(() => socket.destroy())
  }
  await eventually(async () => {
    const held = await readDatabase(server.dataDir, 'SELECT id FROM uploads WHERE process IS NOT NULL')
    return held.length === uploads
  })
  const statements = () => server.lines().filter(({ msg }) => msg === 'statement').length
  // What they began with may still go on.
  const perSecond = await eventually(async () => {
    const [before, begun] = [statements(), performance.now()]
    await sleep(5000)
    const rate = (statements() - before) / ((performance.now() - begun) / 1000)
    return rate < 10 && rate
  }, 60_000)
  t.ok(perSecond > 0, `${perSecond} statements a second`)
})

t.test('two processes, one upload', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '2', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  const one = await startServer(t, { dataDir, env })
  const two = await startServer(t, { dataDir, env })
  const files = await one.files()

  await t.test('the newer request makes the older one let go, back and forth', async (t) => {
    const location = await create(await signTus(files, 'a'), content.length)
    let offset = 0
    for (let turn = 0; turn < 4; turn++) {
      const [holder, other] = turn % 2 === 0 ? [one, two] : [two, one]
      const sent = startPatch(at(holder, location), offset, content.length - offset)
      sent.socket.write(content.subarray(offset, offset + 1_000_000))
      await underWay(holder)
      const started = performance.now()
      // Either way of going on.
      const answer = await (turn < 2 ? tus('HEAD', at(other, location)) : patch(at(other, location), offset, 'x'))
      t.ok(performance.now() - started < 10_000, 'within a bounded time')
      t.match(await sent.answer, /^HTTP\/1.1 409[\s\S]*upload_interrupted/)
      const reached = Number((await tus('HEAD', at(holder, location))).offset)
      t.ok(reached >= offset && reached <= offset + 1_000_000, `from ${offset} to ${reached}`)
      if (turn < 2) t.match(answer, { status: 200, offset: `${reached}` })
      else t.match(answer, { status: 409, code: 'upload_offset_mismatch' }, 'what is there is not written again')
      offset = reached
    }
    t.ok(offset > 0)
    t.match(await patch(at(two, location), offset, content.subarray(offset)), { status: 204 })
    t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
    for (const server of [one, two]) {
      t.equal((await tus('HEAD', at(server, location))).offset, `${content.length}`)
    }
  })

  await t.test('many at once for the same bytes: one of them is right', async (t) => {
    const location = await create(await signTus(files, 'b'), content.length)
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => patch(at(index % 2 === 0 ? one : two, location), 0, content)),
    )
    const codes = answers.map(({ status, code }) => code ?? status)
    let { offset } = await tus('HEAD', location)
    if (offset !== `${content.length}`) {
      t.match(await patch(location, Number(offset), content.subarray(Number(offset))), { status: 204 })
      offset = (await tus('HEAD', location)).offset
    }
    t.equal(offset, `${content.length}`, codes.join())
    t.equal(sha256(await readFile(join(files.mount, 'b'))), sha256(content))
  })

  await t.test('kill -9 of the one that has it', async (t) => {
    const location = await create(await signTus(files, 'c'), content.length)
    t.match(await patch(at(one, location), 0, content.subarray(0, 2_000_000)), { status: 204 })
    const { socket } = startPatch(at(one, location), 2_000_000, 6_000_000)
    // By a reset where the killed process had not read all that was sent.
    const closed = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
    socket.write(content.subarray(2_000_000, 4_000_000))
    await underWay(one)
    const killed = performance.now()
    await one.end('SIGKILL')
    await closed
    const { status, offset } = await tus('HEAD', at(two, location))
    t.equal(status, 200)
    t.ok(performance.now() - killed > 1000, 'not before it is known to be dead')
    t.equal(offset, '2000000', 'what was not flushed does not count')
    t.match(await patch(at(two, location), 2_000_000, content.subarray(2_000_000)), { status: 204 })
    t.equal(sha256(await readFile(join(files.mount, 'c'))), sha256(content))
  })

  await t.test('one that stood still does nothing more to what another one has gone on with', async (t) => {
    const three = await startServer(t, { dataDir, env })
    const reached = `SELECT "offset" FROM uploads WHERE path = 'd' AND state = 'open'`
    const checksum = `sha256 ${Buffer.from(sha256(content), 'hex').toString('base64')}`
    for (const headers of [{ 'upload-checksum': checksum }, {}] as Headers[]) {
      const url = await signTus({ server: three, folder: files.folder }, 'd')
      const location = await create(url, content.length)
      const { socket: first } = startPatch(at(two, location), 0, content.length, headers)
      first.write(content.subarray(0, 1_000_000))
      await underWay(two)
      two.process.kill('SIGSTOP')
      const { offset } = await tus('HEAD', at(three, location))
      t.equal(offset, '0')
      t.match(await patch(at(three, location), 0, content.subarray(0, 2_000_000)), { status: 204 })
      const { socket, answer } = startPatch(at(three, location), 2_000_000, content.length - 2_000_000)
      socket.write(content.subarray(2_000_000, 4_000_000))
      await sleep(500)
      first.destroy()
      two.process.kill('SIGCONT')
      await sleep(1500)
      t.ok(Number((await readDatabase(dataDir, reached))[0].offset) >= 2_000_000, 'what was told of counts')
      socket.write(content.subarray(4_000_000))
      t.match(await answer, / 204 /)
      socket.destroy()
      const stored = await readFile(join(files.mount, 'd'))
      t.equal(sha256(stored), sha256(content), JSON.stringify(headers))
    }
  })

  t.match(await two.ask('GET', `/folders/${files.folder}`), { usage: { files: 4, bytes: 4 * content.length } })
  await assertNothingLeft(t, two, files.folder)
})
