import { randomBytes } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { backendAiEnv, startForClients } from '../backend-ai-clients.ts'
import { eventually, type Server, startServer, temporaryDirectory } from '../server.ts'
import { assertNothingLeft, patch, startPatch, tus } from '../tus.ts'

const content = randomBytes(2_000_000)

t.test("an upload of Backend.AI's clients, two processes", async (t) => {
  const dataDir = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '2' }
  const vfolder = await startForClients(t, { dataDir, env })
  const one = vfolder.server
  const two = await startServer(t, { dataDir, env: { ...backendAiEnv, ...env } })
  const at = (server: Server, url: string) => server.url + url.slice(new URL(url).origin.length)
  const stored = (path: string) => readFile(join(vfolder.mount, path))

  await t.test('several requests begin it at once', async (t) => {
    for (const size of [1000, content.length]) {
      const bytes = content.subarray(0, size)
      const url = vfolder.upload(`at-once-${size}`, size)
      const answers = await Promise.all(
        Array.from({ length: 6 }, (_, index) => patch(at(index % 2 ? one : two, url), 0, bytes)),
      )
      const statuses = answers.map(({ status }) => status)
      t.same(
        statuses.filter((status) => status !== 204 && status !== 409),
        [],
        statuses.join(),
      )
      const offset = Number((await tus('HEAD', at(two, url))).offset)
      if (offset < size) t.match(await patch(at(one, url), offset, bytes.subarray(offset)), { status: 204 })
      t.match(await tus('HEAD', at(one, url)), { status: 200, offset: `${size}` })
      t.ok((await stored(`at-once-${size}`)).equals(bytes))
    }
  })

  await t.test('turn by turn, once begun again', async (t) => {
    const url = vfolder.upload('by-turns', content.length)
    t.match(await patch(at(one, url), 0, ''), { status: 204, offset: '0' })
    // As if the process had ended between its row and its place on the storage.
    const uploads = join(dataDir, 'volumes/default/uploads')
    for (const name of await readdir(uploads)) await rm(join(uploads, name))
    for (let offset = 0; offset < content.length; offset += 500_000) {
      const chunk = content.subarray(offset, offset + 500_000)
      const server = offset % 1_000_000 === 0 ? two : one
      t.match(await patch(at(server, url), offset, chunk), { status: 204, offset: `${offset + chunk.length}` })
    }
    t.ok((await stored('by-turns')).equals(content))
  })

  await t.test('kill -9 of the one that has it', async (t) => {
    const url = vfolder.upload('killed', content.length)
    t.match(await patch(at(one, url), 0, content.subarray(0, 500_000)), { status: 204 })
    const { socket } = startPatch(at(one, url), 500_000, 1_500_000)
    socket.on('error', () => {}).write(content.subarray(500_000, 1_000_000))
    await eventually(async () => (await one.openFiles()).some((file) => file.includes('/uploads/')))
    await one.end('SIGKILL')
    const { status, offset } = await tus('HEAD', at(two, url))
    t.equal(status, 200)
    t.match(await patch(at(two, url), Number(offset), content.subarray(Number(offset))), { status: 204 })
    t.ok((await stored('killed')).equals(content))
  })

  await assertNothingLeft(t, two, vfolder.folder)
})
