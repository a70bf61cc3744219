import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t from 'tap'
import { createFuseMount } from '../fuse-mount.ts'
import { type Answer, eventually, type Server, startServer } from '../server.ts'

const chunk = randomBytes(1024 * 1024)
const refused = {
  status: 503,
  code: 'volume_unavailable',
  title: 'The volume cannot be used',
  detail: /the mount of the volume does not answer/,
}

async function readiness(server: Server): Promise<Answer> {
  const response = await fetch(`${server.managerUrl}/readyz`)
  const { checks } = (await response.json()) as Answer
  return { status: response.status, ...checks.find(({ name }: Answer) => name === 'volume:shared') }
}

const isReady = (server: Server) => eventually(async () => (await readiness(server)).status === 200)

async function put(server: Server, folder: string, path: string, body: RequestInit['body']): Promise<Response> {
  const url = await server.sign(folder, path, { operation: 'upload' })
  return fetch(url, { method: 'PUT', body, duplex: 'half' } as RequestInit)
}

t.test('a mount that hangs', async (t) => {
  const fuse = await createFuseMount(t)
  await fuse.mount()
  const volumes = {
    default: { backend: 'posix', root: join(fuse.source, '../default') },
    shared: { backend: 'posix', root: fuse.point, mount: true, timeoutSeconds: 2 },
  }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })
  const other = await server.createFolder()
  await server.upload(other, { small: 'small', 'more/large': chunk })
  const folder = await server.createFolder({ volume: 'shared' })
  await server.upload(folder, { small: 'small', large: chunk, 'dir/a': 'a' })
  const files = { folder, path: (path: string) => `/folders/${folder}/files/${path}` }
  const staged = () => readdir(join(fuse.source, 'staging'))

  /** Calls of all kinds, of which many are under way at once. */
  const calls = (): Promise<Response>[] =>
    Array.from({ length: 10 }, (_, index) => [
      put(server, folder, `small-${index}`, 'small'),
      put(server, folder, `large-${index}`, chunk),
      server.manager('GET', `/folders/${folder}/files?recursive=true`),
      server.manager('GET', `/folders/${folder}/content/small`),
      server.manager('GET', `/folders/${folder}/content/large`),
      server.manager('POST', files.path('mkdir'), { path: `made-${index}` }),
      server.manager('POST', files.path('move'), { from: 'dir/a', to: `moved-${index}` }),
      server.manager('POST', files.path('copy'), { from: 'dir', to: `copied-${index}` }),
      server.manager('POST', files.path('delete'), { paths: [`nothing-${index}`], recursive: true }),
    ]).flat()

  await t.test('what waits for it is answered, and other volumes are served', async (t) => {
    const end = Promise.withResolvers<void>()
    async function* slow() {
      yield chunk
      await end.promise
      yield chunk
    }
    const uploading = put(server, folder, 'slow', Readable.toWeb(Readable.from(slow())) as ReadableStream)
    await eventually(async () => (await staged()).length > 0)
    fuse.hang()
    const asked = calls()
    end.resolve()
    for (let index = 0; index < 20; index++) {
      t.equal((await put(server, other, `small-${index}`, 'small')).status, 201)
      t.equal((await put(server, other, `large-${index}`, chunk)).status, 201)
      t.equal(await (await server.manager('GET', `/folders/${other}/content/small`)).text(), 'small')
    }
    t.equal((await server.ask('GET', `/folders/${other}/files?recursive=true`)).entries.length, 43)
    for (const answer of await Promise.all([uploading, ...asked])) {
      const body = (await answer.json()) as Answer
      t.match(body.results?.[0]?.error ?? body, refused)
    }
    t.match(await readiness(server), { status: 503, healthy: false, reason: refused.detail })
    await server.logged(({ msg, volume }) => volume === 'shared' && msg === 'the mount of the volume does not answer')
  })

  await t.test('it answers again', async (t) => {
    fuse.answer()
    await isReady(server)
    await server.logged(({ msg, volume }) => volume === 'shared' && msg === 'the mount of the volume answers again')
    t.equal((await put(server, folder, 'after', 'after')).status, 201)
    t.equal(await (await server.manager('GET', `/folders/${folder}/content/small`)).text(), 'small')
    t.equal(
      (await server.manager('GET', `/folders/${folder}/content/slow`)).status,
      404,
      'what was refused is not there',
    )
  })

  await t.test('it is replaced by another mount while it hangs', async (t) => {
    fuse.hang()
    const asked = calls()
    await Promise.all(asked)
    fuse.takeAway()
    await fuse.mount()
    await isReady(server)
    t.equal(await (await server.manager('GET', `/folders/${folder}/content/after`)).text(), 'after')
    const stored = await Promise.all(Array.from({ length: 40 }, (_, index) => put(server, folder, `${index}`, chunk)))
    t.same(new Set(stored.map(({ status }) => status)), new Set([201]))
  })

  await t.test('the service ends all the same', async (t) => {
    fuse.hang()
    const asked = calls()
    await eventually(async () => (await readiness(server)).status === 503)
    server.process.kill('SIGTERM')
    await Promise.allSettled(asked)
    await eventually(() => server.process.exitCode !== null || server.process.signalCode !== null)
    t.ok(server.lines().some(({ msg }) => msg === 'the service closes'))
  })
})

t.test('a mount that hangs when the service starts', async (t) => {
  const fuse = await createFuseMount(t)
  await fuse.mount()
  const volumes = {
    default: { backend: 'posix', root: join(fuse.source, '../default') },
    shared: { backend: 'posix', root: fuse.point, mount: true, timeoutSeconds: 2 },
  }
  fuse.hang()
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })
  t.ok(await server.createFolder())
  t.match(await readiness(server), { status: 503 })
  t.match(await (await server.manager('POST', '/folders', { volume: 'shared' })).json(), refused)
  fuse.answer()
  await isReady(server)
  t.ok(await server.createFolder({ volume: 'shared' }))
})
