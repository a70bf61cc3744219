import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runTool } from '../../backends/tool.ts'
import { createFuseMount } from '../fuse-mount.ts'
import { startServer } from '../server.ts'

/** More than there are threads, and places for programs. */
const many = 60

t.test('the programs of a volume on a mount', async (t) => {
  const fuse = await createFuseMount(t)
  await fuse.mount()
  const program = join(fuse.source, '../program')
  // It asks the volume for a name that the kernel does not know yet.
  const script = `read -r asked; echo "$asked" > ${program}.asked; stat "$1/$STORAGE_PROXY_REQUEST_ID" >&2; echo '{}'`
  writeFileSync(program, `#!/bin/sh\n${script}\n`)
  chmodSync(program, 0o755)
  const local = join(fuse.source, '../local')
  mkdirSync(local)
  const volumes = {
    default: { backend: 'command', root: local, commands: { quota: [program, local] } },
    shared: {
      backend: 'command',
      root: join(fuse.point, 'root'),
      mount: fuse.point,
      timeoutSeconds: 8,
      commands: { quota: [program, fuse.point] },
    },
  }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })

  const folder = await server.createFolder({ volume: 'shared' })
  const asked = JSON.parse(readFileSync(`${program}.asked`, 'utf8'))
  const path = await server.mountOf(folder)
  t.same(asked.folder, { id: folder, path: join(path, '..'), files: path }, 'they are told where the host has it')

  const folders = await Promise.all(Array.from({ length: many }, () => server.createFolder({ volume: 'shared' })))
  fuse.hang()
  const asking = folders.map((id) => server.manager('PATCH', `/folders/${id}`, { quota: { bytes: 1000 } }))
  let answered = 0
  for (const answer of asking) answer.then(() => answered++)
  for (let count = 0; count < 3; count++) {
    const other = await server.createFolder({ quota: { bytes: 1000 } })
    await server.upload(other, { file: 'content' })
  }
  t.equal(answered, 0, 'another volume was served before the mount was found to hang')
  for (const answer of await Promise.all(asking)) {
    t.match(await answer.json(), { status: 503, code: 'volume_unavailable' })
  }

  const aborting = new AbortController()
  const tool = { file: 'true', args: [], env: { PATH: '/usr/bin:/bin' }, cwd: fuse.point }
  setTimeout(() => aborting.abort(new Error('nobody waits any more')), 100)
  const running = runTool(tool, { timeoutSeconds: 60, signal: aborting.signal, share: fuse })
  await t.rejects(
    running,
    { message: 'nobody waits any more' },
    'nor does a program that begins on it hold up anything',
  )
  fuse.answer()
  t.equal(await server.end(), 0)
})
