import { randomBytes } from 'node:crypto'
import { cp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createFuseMount } from '../fuse-mount.ts'
import { type Answer, eventually, type Server, startServer } from '../server.ts'

const chunk = randomBytes(256 * 1024)

async function readiness(server: Server): Promise<Answer> {
  const response = await fetch(`${server.managerUrl}/readyz`)
  const { checks } = (await response.json()) as Answer
  return { status: response.status, ...checks.find(({ name }: Answer) => name === 'volume:shared') }
}

const isReady = (server: Server) => eventually(async () => (await readiness(server)).status === 200)

/** A body of which the second half comes when it may end. */
function slowBody() {
  const { promise: over, resolve: end } = Promise.withResolvers<void>()
  async function* chunks() {
    for (let index = 0; index < 8; index++) yield chunk
    await over
    for (let index = 0; index < 8; index++) yield chunk
  }
  return { body: Readable.toWeb(Readable.from(chunks())) as ReadableStream, end }
}

async function put(server: Server, folder: string, path: string, body: RequestInit['body']): Promise<Response> {
  const url = await server.sign(folder, path, { operation: 'upload' })
  return fetch(url, { method: 'PUT', body, duplex: 'half' } as RequestInit)
}

t.test('a mount that goes away and comes back', async (t) => {
  const fuse = await createFuseMount(t)
  const volumes = {
    default: { backend: 'posix', root: join(fuse.source, '../default') },
    shared: { backend: 'posix', root: fuse.point, mount: true },
  }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })
  const other = await server.createFolder()
  const refused = { status: 503, code: 'volume_unavailable', detail: /nothing is mounted where the volume belongs/ }
  const create = async (): Promise<Answer> => (await server.manager('POST', '/folders', { volume: 'shared' })).json()

  /** All of the volume is refused and told, the other one serves, and nothing is in the place of the mount. */
  async function assertAway(t: Test, folder?: string): Promise<void> {
    t.match(await create(), refused)
    if (folder !== undefined) {
      t.match(await (await server.manager('GET', `/folders/${folder}/files`)).json(), refused)
      t.match(await (await server.manager('GET', `/folders/${folder}/content/small`)).json(), refused)
      t.match(await (await put(server, folder, 'new', 'new')).json(), refused)
    }
    t.match(await readiness(server), { status: 503, healthy: false, reason: refused.detail })
    t.equal((await put(server, other, 'while-away', 'stored')).ok, true)
  }

  await t.test('it is not there when the service starts', async (t) => {
    await assertAway(t)
    t.same(await readdir(fuse.point), [])
    await fuse.mount()
    await isReady(server)
  })

  const folder = (await create()).id
  const whole = Buffer.concat(Array.from({ length: 200 }, () => chunk))
  t.equal((await put(server, folder, 'large', whole)).status, 201)
  t.equal((await put(server, folder, 'small', 'small')).status, 201)

  await t.test('it goes away during an upload and a download', async (t) => {
    const { body, end } = slowBody()
    const uploading = put(server, folder, 'dir/slow', body)
    const download = await fetch(await server.sign(folder, 'large'))
    await eventually(async () => (await readdir(join(fuse.source, 'staging'))).length > 0)
    fuse.takeAway()
    await eventually(async () => (await readiness(server)).status === 503)
    await assertAway(t, folder)
    end()
    t.match(await (await uploading).json(), refused)
    t.ok(Buffer.from(await download.arrayBuffer()).equals(whole))
    t.same(await readdir(fuse.point), [])
    t.same(await readdir(join(fuse.source, 'staging')), [], 'what was staged is removed where it is')
  })

  await t.test('a volume of its own below the mount gains nothing', async (t) => {
    await cp(fuse.source, fuse.point, { recursive: true })
    const before = await readdir(fuse.point, { recursive: true })
    await assertAway(t, folder)
    await sleep(1500)
    t.same(await readdir(fuse.point, { recursive: true }), before)
    for (const name of await readdir(fuse.point)) await rm(join(fuse.point, name), { recursive: true })
  })

  await t.test('it comes back', async (t) => {
    await fuse.mount()
    await isReady(server)
    const content = async (path: string) => {
      const answer = await server.manager('GET', `/folders/${folder}/content/${path}`)
      return Buffer.from(await answer.arrayBuffer())
    }
    t.ok((await content('large')).equals(whole))
    t.equal((await put(server, folder, 'new', 'new')).status, 201)
    t.equal(await readFile(join(await server.mountOf(folder), 'new'), 'utf8'), 'new')
    t.equal((await server.manager('GET', `/folders/${folder}/content/dir/slow`)).status, 404)
  })

  await t.test('it is not kept busy when nobody uses it', async () => {
    await eventually(async () => (await server.openFiles(fuse.point)).length === 0)
  })
  t.equal(await server.end(), 0)
})
