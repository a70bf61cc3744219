import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import t from 'tap'
import { conformance } from '../../backends/conformance/index.ts'
import { nfs } from '../../backends/nfs/index.ts'
import { createFuseMount } from '../fuse-mount.ts'
import { temporaryDirectory } from '../server.ts'

const script = fileURLToPath(new URL('../nfs-like.py', import.meta.url))

t.test('nfs', async (t) => {
  const stale = await temporaryDirectory(t)
  const fuse = await createFuseMount(t, ({ source, point }) => ['/usr/bin/python3', script, source, point, stale, '1'])
  await fuse.mount()
  const { signal } = new AbortController()
  const log = pino({ level: 'silent' })
  const open = () => nfs.create({ options: { root: fuse.point }, log, idleSeconds: 240, signal })
  for (const { name, run } of await conformance(open)) await t.test(name, run)
})
