import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { eventually, startServer } from './server.ts'
import { assertNothingLeft, create, patch, sha256, signTus, startPatch, tus } from './tus.ts'

t.test('a second request makes the first one let go', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const location = await create(await signTus(files, 'a'), 1_000_000)
  const content = randomBytes(1_000_000)
  const { socket, answer } = startPatch(location, 0, content.length)
  socket.write(content.subarray(0, 300_000))
  await sleep(300)
  const offset = Number((await tus('HEAD', location)).offset)
  t.equal(offset, 300_000, 'and what it has is not lost')
  t.match(await answer, /^HTTP\/1.1 409[\s\S]*upload_interrupted/)
  t.match(await patch(location, offset, content.subarray(offset)), { status: 204, offset: '1000000' })
  t.equal(sha256(await readFile(join(files.mount, 'a'))), sha256(content))
  socket.destroy()
  await assertNothingLeft(t, server, files.folder)
})

t.test('a vfolder that is deleted takes its uploads with it', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const location = await create(await signTus(files, 'a'), 10)
  await patch(location, 0, 'hello')
  await server.ask('DELETE', `/folders/${files.folder}`)
  await eventually(async () => (await patch(location, 5, 'world')).status === 404)
  await eventually(async () => (await readdir(join(server.dataDir, 'volumes/default/uploads'))).length === 0)
})
