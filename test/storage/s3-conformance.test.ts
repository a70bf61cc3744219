import t from 'tap'
import { capabilities } from '../../backends/capabilities.ts'
import { conformance } from '../../backends/conformance/index.ts'
import { openS3 } from '../s3.ts'

// What every backend does; the other half, what only some do, is in a file of its own, since each takes its time.
t.test('s3', async (t) => {
  const { open } = await openS3()
  for (const { name, run } of await conformance(open)) {
    if (!capabilities.some((capability) => name.startsWith(`${capability}:`))) t.test(name, run)
  }
})
