import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { conformance } from '../../backends/conformance/index.ts'
import { bound, Turns } from '../../backends/layers/bound.ts'
import { callLog } from '../../backends/layers/call-log.ts'
import { circuit } from '../../backends/layers/circuit.ts'
import { around } from '../../backends/layers/layer.ts'
import { timeLimit } from '../../backends/layers/time-limit.ts'
import { posix } from '../../backends/posix/index.ts'

const log = pino({ level: 'silent' })
/** As volumes have them around each backend. */
const layers = () => [callLog(log), bound(new Turns(10, 100)), circuit(log), timeLimit(60)]

const places = {
  posix: { parent: tmpdir(), layers: () => [] },
  'posix as Backend.AI has it, on tmpfs, with layers around it': { parent: '/dev/shm', layout: 'backend-ai', layers },
}

for (const [name, { parent, layers, ...layout }] of Object.entries(places)) {
  t.test(name, async (t) => {
    const root = await mkdtemp(join(parent, 'storage-proxy-test-'))
    t.teardown(() => rm(root, { recursive: true }))
    const { signal } = new AbortController()
    const options = { root, ...layout }
    const open = async () => around(await posix.create({ options, log, idleSeconds: 240, signal }), layers())
    for (const { name, run } of await conformance(open, { pageEntries: 100 })) t.test(name, run)
  })
}
