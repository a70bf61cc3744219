import t from 'tap'
import { capabilities } from '../../backends/capabilities.ts'
import { conformance } from '../../backends/conformance/index.ts'
import { openS3 } from '../s3.ts'

// The cases for every backend. Those for capabilities are in a file of their own, since each half takes long.
t.test('s3', async (t) => {
  const { open } = await openS3()
  for (const { name, run } of await conformance(open)) {
    if (!capabilities.some((capability) => name.startsWith(`${capability}:`))) t.test(name, run)
  }
})
