import { readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { changeDatabase } from '../database.ts'
import { type Answer, eventually, Files, type Server, startServer, temporaryDirectory } from '../server.ts'

const env = {
  TRASH_RETENTION_SECONDS: '86400',
  UPLOAD_CLEANUP_INTERVAL_SECONDS: '1',
  IDLE_TIMEOUT_SECONDS: '1',
  LEASE_SECONDS: '1',
}
const kills = 4
const names = Array.from({ length: 12 }, (_, n) => `file-${n}`)

const trashOf = async (server: Server, folder: string): Promise<Answer[]> =>
  (await server.ask('GET', `/folders/${folder}/trash?limit=1000`)).entries

/** Deletes all and restores all, over and over until the server is killed. */
async function workUntilKilled(server: Server, folder: string): Promise<void> {
  try {
    for (;;) {
      await Promise.all(
        ['tree', ...names].map((path) =>
          server.ask('POST', `/folders/${folder}/files/delete`, { paths: [path], recursive: true }),
        ),
      )
      const entries = await trashOf(server, folder)
      await Promise.all(entries.map(({ id }) => server.manager('POST', `/folders/${folder}/trash/${id}/restore`, {})))
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error // fetch's own, when the connection breaks
  }
}

t.test(`nothing is lost by ${kills} kills in the middle of deletions and restorations`, async (t) => {
  const dataDir = await temporaryDirectory(t)
  let server = await startServer(t, { dataDir, env })
  const folder = await server.createFolder()
  await server.upload(folder, {
    ...Object.fromEntries(names.map((name) => [name, `of ${name}`])),
    ...Object.fromEntries(names.map((name) => [`tree/${name}`, `of tree/${name}`])),
  })
  for (let kill = 0; kill < kills; kill++) {
    const working = workUntilKilled(server, folder)
    await sleep(50 + Math.random() * 250)
    await server.end('SIGKILL')
    await working
    server = await startServer(t, { dataDir, env })
    // Each is in one of the two places, and can be restored.
    await eventually(async () => {
      const files = (await new Files(server, folder, '').keys('')).flat()
      const trashed = (await trashOf(server, folder)).map(({ path, type }) =>
        type === 'directory' ? `${path}/` : path,
      )
      return [...files, ...trashed].sort().join() === [...names, 'tree/'].sort().join()
    })
  }
  for (const { id } of await trashOf(server, folder)) {
    await server.ask('POST', `/folders/${folder}/trash/${id}/restore`, {})
  }
  for (const name of names.flatMap((name) => [name, `tree/${name}`])) {
    t.equal(await (await fetch(await server.sign(folder, name))).text(), `of ${name}`)
  }
  const files = new Files(server, folder, '')
  const bytes = names.reduce((sum, name) => sum + `of ${name}`.length + `of tree/${name}`.length, 0)
  await eventually(async () => {
    const usage = await files.usage()
    return usage.files === 2 * names.length && usage.bytes === bytes
  })
})

t.test('what a dead process left between two steps is settled', async (t) => {
  const dataDir = await temporaryDirectory(t)
  let server = await startServer(t, { dataDir, env })
  const files = await server.files()
  const { folder, mount } = files
  const deleted = ['left', 'stayed', 'came-back', 'not-yet', 'asked-for']
  await files.upload(Object.fromEntries(deleted.map((name) => [name, `of ${name}`])))
  await files.post('delete', { paths: deleted })
  const entries = await trashOf(server, folder)
  const placeOf = (name: string) => {
    const { id } = entries.find(({ path }) => path === name)
    return join(mount.replace('/folders/', '/trash/'), id)
  }
  await server.end('SIGKILL')
  const steps = {
    left: 'leaving',
    stayed: 'leaving',
    'came-back': 'returning',
    'not-yet': 'returning',
    'asked-for': 'returning',
  }
  for (const [name, state] of Object.entries(steps)) {
    const counted = state === 'leaving' ? ', files = 0, bytes = 0' : ''
    await changeDatabase(
      dataDir,
      `update trashed_entries set state = '${state}', process = 'dead'${counted} where path = '${name}'`,
    )
  }
  for (const name of ['stayed', 'came-back']) await rename(placeOf(name), join(mount, name))

  server = await startServer(t, { dataDir, env })
  const again = new Files(server, folder, mount)
  const asked = entries.find(({ path }) => path === 'asked-for')
  const answer = await server.manager('POST', `/folders/${folder}/trash/${asked.id}/restore`, {})
  t.ok([200, 404].includes(answer.status), 'the cleanup may have come first')
  const came = ['asked-for', 'came-back', 'not-yet', 'stayed']
  await eventually(async () => (await again.keys('')).flat().join() === came.join())
  const kept = { path: 'left', type: 'file', files: 1, bytes: 'of left'.length }
  await eventually(async () => (await trashOf(server, folder)).length === 1)
  t.match(await trashOf(server, folder), [kept])
  for (const name of came) t.equal(await readFile(join(mount, name), 'utf8'), `of ${name}`)
  const total = deleted.reduce((sum, name) => sum + `of ${name}`.length, 0)
  await eventually(async () => (await again.usage()).bytes === total)
})

t.test('two processes have one trash', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const servers = [await startServer(t, { dataDir, env }), await startServer(t, { dataDir, env })]
  const [server, other] = [servers[0]!, servers[1]!]
  const files = await server.files()
  const { folder } = files
  const taken = ['a', 'b', 'c', 'd']
  await files.upload(Object.fromEntries(taken.map((name) => [name, name])))
  await other.ask('POST', `/folders/${folder}/files/delete`, { paths: taken })
  const statuses = await Promise.all(
    (await trashOf(server, folder)).map(({ id }) =>
      Promise.all(
        servers.flatMap((one) => [
          one.manager('POST', `/folders/${folder}/trash/${id}/restore`, { onConflict: 'rename' }),
          one.manager('DELETE', `/folders/${folder}/trash/${id}`),
        ]),
      ),
    ),
  )
  let restored = 0
  for (const answers of statuses) {
    const codes = answers.map(({ status }) => status)
    const returned = codes.filter((status) => status === 200).length
    t.ok(returned <= 1 && codes.every((status) => [200, 202, 404, 409].includes(status)), codes.join())
    t.ok(returned === 1 || codes.includes(202), 'somebody has it')
    restored += returned
  }
  await eventually(async () => (await files.usage()).files === restored)
  t.equal((await files.keys('')).flat().length, restored)
  t.same(await trashOf(server, folder), [])

  await t.test('a shorter retention holds for what is there', async (t) => {
    await files.upload({ last: 'last' })
    await files.post('delete', { paths: ['last'] })
    await Promise.all(servers.map((one) => one.end()))
    const next = await startServer(t, { dataDir, env: { ...env, TRASH_RETENTION_SECONDS: '0' } })
    await eventually(async () => (await trashOf(next, folder)).length === 0)
    await next.logged(({ msg, path }) => msg === 'entry removed from the trash' && path === 'last')
  })
})
