import { execFile } from 'node:child_process'
import { mkdir, utimes, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { eventually, managerToken, startServer, temporaryDirectory } from '../server.ts'
import { amongMountsOf, needing, withOwnMounts } from '../tools.ts'

const run = promisify(execFile)

t.test('the cleanup takes what the dead left and nothing of the living', async (t) => {
  const dataDir = await temporaryDirectory(t)
  // Its cleanup fails, and comes before that of the other one.
  const away = { backend: 's3', bucket: 'away', endpoint: 'http://127.0.0.1:1', maxAttempts: 1 }
  const VOLUMES = JSON.stringify({ away, default: { backend: 'posix', root: join(dataDir, 'volumes/default') } })
  const env = { IDLE_TIMEOUT_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1', VOLUMES }
  const server = await startServer(t, { env, dataDir })
  const files = await server.files()
  const upload = request(`${server.url}/folders/upload?folder=${files.folder}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${managerToken}`, 'content-type': 'multipart/form-data; boundary=b' },
  })
  const answered = new Promise<number | undefined>((resolve, reject) =>
    upload.on('response', ({ statusCode }) => resolve(statusCode)).on('error', reject),
  )
  upload.write('--b\r\nContent-Disposition: form-data; name="file"; filename="slow.bin"\r\n\r\nfirst')
  // The cleanup makes a file there for an instant, to tell the time by.
  const living = await eventually(async () => {
    const staged = await server.staged()
    await sleep(100)
    return (await server.staged()).find((name) => staged.includes(name))
  })

  const dead = join(server.dataDir, 'volumes/default/staging/dead')
  await writeFile(dead, 'left behind')
  const hourAgo = new Date(Date.now() - 3_600_000)
  await utimes(dead, hourAgo, hourAgo)

  // Five seconds, each with less than is gathered for one write to the disk.
  for (let tick = 0; tick < 20; tick++) {
    upload.write('x'.repeat(1000))
    await sleep(250)
  }
  await eventually(async () => (await server.staged()).join() === living)
  const line = await server.logged(({ msg }) => msg === 'leftovers removed')
  t.match(line, { volume: 'default', files: 1, bytes: 11, request_id: /^[0-9a-f-]{36}$/ })

  upload.end('\r\n--b--\r\n')
  t.equal(await answered, 201)
  t.match(await files.stat('slow.bin'), { size: 20_005 })
})

t.test(
  'what cannot be removed does not keep the rest from being',
  needing('mount', 'nsenter', 'unshare', 'mounts of its own'),
  async (t) => {
    const env = { IDLE_TIMEOUT_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
    const server = await startServer(t, { env, through: withOwnMounts })
    const staging = join(server.dataDir, 'volumes/default/staging')
    const [nsenter = '', ...inside] = amongMountsOf(server.process.pid)
    for (const name of ['a', 'k', 'z']) {
      await mkdir(join(staging, `${name}-kept/in-use`), { recursive: true })
      await run(nsenter, [...inside, 'mount', '-t', 'tmpfs', 'none', join(staging, `${name}-kept/in-use`)])
    }
    for (const name of ['b', 'l', 'y']) await writeFile(join(staging, `${name}-goes`), 'left behind')
    const { err, volume } = await server.logged(({ msg }) => msg === 'the cleanup of a volume failed')
    t.match({ err, volume }, { volume: 'default', err: { message: /-kept/ } })
    await eventually(async () => (await server.staged()).every((name) => !name.endsWith('-goes')), 10_000)
    t.equal((await server.staged()).filter((name) => name.endsWith('-kept')).length, 3)
  },
)
