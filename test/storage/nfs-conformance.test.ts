import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import t from 'tap'
import { conformance } from '../../backends/conformance/index.ts'
import { nfs } from '../../backends/nfs/index.ts'
import { createFuseMount } from '../fuse-mount.ts'
import { reopening } from '../reopening.ts'
import { temporaryDirectory } from '../server.ts'

const script = fileURLToPath(new URL('../nfs-like.py', import.meta.url))

/** A file that is replaced between its lookup and its opening is gone for FUSE, where a client of NFS has a stale handle. */
const unlikeNfs = ['concurrency: readers see the old file or the new one while it is replaced']

t.test('nfs', async (t) => {
  const stale = await temporaryDirectory(t)
  const fuse = await createFuseMount(t, ({ source, point }) => ['/usr/bin/python3', script, source, point, stale, '1'])
  await fuse.mount()
  const { signal } = new AbortController()
  const log = pino({ level: 'silent' })
  const create = () => nfs.create({ options: { root: fuse.point }, log, idleSeconds: 240, signal })
  const backends = [await create(), await create()] as const
  for (const { name, run } of await conformance(reopening([...backends]), { pageEntries: 100 })) {
    if (!unlikeNfs.includes(name)) await t.test(name, run)
  }
  for (const backend of backends) await backend.close()
})
