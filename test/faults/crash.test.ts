import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { eventually, managerToken, type Server, startServer, temporaryDirectory } from '../server.ts'

const kills = 10
/** Each has an upload under way at each kill. */
const names = ['a.bin', 'b.bin', 'c.bin', 'd.bin']
const size = 2 * 1024 * 1024

/** A file of one version is told from every other by its first bytes and its hash. */
function version(number: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(size).fill(number % 251).fill(Math.floor(number / 251), 0, 16)
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Replaces the file over and over until the server is killed; resolves to the last version that was acknowledged. */
async function uploadUntilKilled(
  server: Server,
  folder: string,
  name: string,
  current: number,
): Promise<{ stored: number; sent: number }> {
  let stored = current
  for (let number = current + 1; ; number++) {
    const form = new FormData()
    form.append('file', new Blob([version(number)]), name)
    try {
      const response = await fetch(`${server.url}/folders/upload?folder=${folder}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${managerToken}` },
        body: form,
      })
      if (response.status !== 201) throw new Error(await response.text())
      stored = number
    } catch (error) {
      if (!(error instanceof TypeError)) throw error // fetch's own, when the connection breaks
      return { stored, sent: number }
    }
  }
}

t.test(`${kills} kills at random moments of ${names.length} uploads`, { timeout: 600_000 }, async (t) => {
  const dataDir = await temporaryDirectory(t)
  const options = {
    dataDir,
    env: { LOG_LEVEL: 'info', IDLE_TIMEOUT_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' },
  }
  let server = await startServer(t, options)
  const folder = await server.createFolder()
  const mount = await server.mountOf(folder)
  await server.upload(folder, Object.fromEntries(names.map((name) => [name, version(0)])))

  const current = new Map(names.map((name) => [name, 0]))
  let cutUploads = 0
  for (let kill = 0; kill < kills; kill++) {
    const uploads = names.map(async (name) => ({
      name,
      ...(await uploadUntilKilled(server, folder, name, current.get(name) ?? 0)),
    }))
    await sleep(Math.random() * 150)
    await server.end('SIGKILL')
    for (const { name, stored, sent } of await Promise.all(uploads)) {
      const found = sha256(await readFile(join(mount, name)))
      // The answer to the upload in flight may be lost after the file had appeared.
      const whole = [stored, sent].filter((number) => sha256(version(number)) === found)
      const is = `${name} is version ${whole[0] ?? 'neither'} of ${stored} and ${sent}`
      t.equal(whole.length, 1, `after kill ${kill} ${is}`)
      if (whole[0] === stored) cutUploads++
      current.set(name, whole[0] ?? sent)
    }
    server = await startServer(t, options)
  }
  t.ok(cutUploads > (kills * names.length) / 4, `${cutUploads} of the kills came before the file had appeared`)

  const staging = join(dataDir, 'volumes/default/staging')
  await eventually(async () => (await readdir(staging)).length === 0)
  const { entries } = await server.ask('GET', `/folders/${folder}/files?recursive=true`)
  t.same(
    entries.map(({ path, size }: { path: string; size: number }) => [path, size]),
    names.map((name) => [name, size]),
  )
  t.equal(await server.end(), 0)
})
