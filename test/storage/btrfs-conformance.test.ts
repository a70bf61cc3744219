import { pino } from 'pino'
import t from 'tap'
import { btrfs } from '../../backends/btrfs/index.ts'
import { conformance } from '../../backends/conformance/index.ts'
import { mountImage, run } from '../loop-image.ts'

t.test('btrfs', async (t) => {
  const root = await mountImage(t, ['mkfs.btrfs', '-q'], 2048)
  run('btrfs', 'quota', 'enable', root)
  const { signal } = new AbortController()
  const open = () => btrfs.create({ options: { root }, log: pino({ level: 'silent' }), idleSeconds: 240, signal })
  for (const { name, run } of await conformance(open, { pageEntries: 100 })) await t.test(name, run)
})
