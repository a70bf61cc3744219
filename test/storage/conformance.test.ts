import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { conformance } from '../../backends/conformance/index.ts'
import { posix } from '../../backends/posix/index.ts'

const places = {
  posix: { parent: tmpdir(), pageEntries: 1000 },
  'posix as Backend.AI has it, on tmpfs': { parent: '/dev/shm', layout: 'backend-ai', pageEntries: 100 },
}

for (const [name, { parent, pageEntries, ...layout }] of Object.entries(places)) {
  t.test(name, async (t) => {
    const root = await mkdtemp(join(parent, 'storage-proxy-test-'))
    t.teardown(() => rm(root, { recursive: true }))
    const { signal } = new AbortController()
    const open = () =>
      posix.create({ options: { root, ...layout }, log: pino({ level: 'silent' }), idleSeconds: 240, signal })
    for (const { name, run } of await conformance(open)) t.test(name, run)
  })
}
