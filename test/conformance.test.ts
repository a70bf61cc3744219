import { pino } from 'pino'
import t from 'tap'
import { conformance } from '../backends/conformance/index.ts'
import { posix } from '../backends/posix/index.ts'
import { temporaryDirectory } from './server.ts'

t.test('posix', async (t) => {
  const root = await temporaryDirectory(t)
  const { signal } = new AbortController()
  const open = () => posix.create({ options: { root }, log: pino({ level: 'silent' }), signal })
  for (const { name, run } of await conformance(open)) t.test(name, run)
})
