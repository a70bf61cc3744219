import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { changeDatabase } from '../database.ts'
import { type Answer, eventually, startServer, temporaryDirectory } from '../server.ts'
import { Strace } from '../strace.ts'
import { needing, withoutRoot } from '../tools.ts'

/** A service whose only volume has these options. */
async function startWith(t: Test, options: object, through: string[]) {
  const dataDir = await temporaryDirectory(t)
  const root = join(dataDir, 'volumes/default')
  const env = { VOLUMES: JSON.stringify({ default: { backend: 'posix', root, ...options } }) }
  return { root, start: () => startServer(t, { dataDir, env, through }) }
}

t.test('an owner that the service cannot give stops the start', needing('setpriv'), async (t) => {
  const withoutChown = ['setpriv', '--bounding-set=-chown']
  for (const [options, reason] of [
    [{ uid: 12_345 }, /VOLUMES\/default cannot be used: .*uid 12345: that takes CAP_CHOWN/],
    [{ gid: 12_345 }, /VOLUMES\/default cannot be used: .*gid 12345: that takes CAP_CHOWN/],
  ] as const) {
    const { root, start } = await startWith(t, options, process.getuid?.() === 0 ? withoutChown : [])
    await t.rejects(start(), reason)
    t.same(await readdir(join(root, 'staging')), [])
  }
})

t.test('modes that the service could not go on with stop the start', needing('setpriv'), async (t) => {
  for (const options of [{ directoryMode: '0055' }, { directoryMode: '0300' }, { fileMode: '0044' }]) {
    const { root, start } = await startWith(t, options, withoutRoot)
    await t.rejects(start(), /VOLUMES\/default cannot be used: .*fileMode and directoryMode/)
    t.same(await readdir(join(root, 'staging')), [])
  }
})

t.test('a creation that fails leaves nothing, and can be repeated', needing('strace'), async (t) => {
  const server = await startServer(t)
  const id = randomUUID()
  const create = async () => {
    const response = await server.manager('POST', '/folders', { id })
    return { status: response.status, ...((await response.json()) as Answer) }
  }
  for (const [errno, expected] of Object.entries({
    EIO: { status: 503, code: 'storage_unavailable' },
    EPERM: { status: 503, code: 'storage_access_denied' },
    ENOSPC: { status: 507, code: 'no_space' },
    EMLINK: { status: 507, code: 'no_space' },
  })) {
    const strace = await Strace.attach(t, server.process, `inject=mkdir,mkdirat:error=${errno}`)
    t.match(await create(), expected, errno)
    t.equal((await server.manager('GET', `/folders/${id}`)).status, 404, `${errno}: no row is left`)
    await strace.detach()
  }
  t.match(await create(), { status: 201, state: 'ready' })
})

t.test('a creation that came to no end is taken back', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' } })
  const id = await server.createFolder()
  changeDatabase(server.dataDir, `UPDATE vfolders SET state = 'creating', created_at = '2020-01-01T00:00:00.000Z'`)
  await eventually(async () => (await server.manager('GET', `/folders/${id}`)).status === 404)
  await eventually(async () => (await server.manager('POST', '/folders', { id })).status === 201)
})
