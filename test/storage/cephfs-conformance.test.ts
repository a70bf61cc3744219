import { pino } from 'pino'
import t from 'tap'
import { cephfs } from '../../backends/cephfs/index.ts'
import { conformance } from '../../backends/conformance/index.ts'
import { mountCephfs } from '../ceph/filesystem.ts'
import { reopening } from '../reopening.ts'

t.test('cephfs, with each further backend on another mount', async (t) => {
  const mounts = await mountCephfs(t, 2)
  const { signal } = new AbortController()
  const log = pino({ level: 'silent' })
  const openAt = (mount: string) =>
    cephfs.create({ options: { root: `${mount}/conformance` }, log, idleSeconds: 240, signal })
  const backends = [await openAt(mounts[0]!), await openAt(mounts[1]!)] as const
  for (const { name, run } of await conformance(reopening([...backends]), { pageEntries: 100 })) await t.test(name, run)
  for (const backend of backends) await backend.close()
})
