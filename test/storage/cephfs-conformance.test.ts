import { pino } from 'pino'
import t from 'tap'
import { cephfs } from '../../backends/cephfs/index.ts'
import { conformance } from '../../backends/conformance/index.ts'
import { mountCephfs } from '../ceph/filesystem.ts'

t.test('cephfs, with each further backend on another mount', async (t) => {
  const mounts = await mountCephfs(t, 2)
  const { signal } = new AbortController()
  let opened = 0
  const open = () => {
    const root = `${mounts[opened++ % mounts.length]}/conformance`
    return cephfs.create({ options: { root }, log: pino({ level: 'silent' }), idleSeconds: 240, signal })
  }
  for (const { name, run } of await conformance(open)) await t.test(name, run)
})
