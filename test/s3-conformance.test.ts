import t from 'tap'
import { conformance } from '../backends/conformance/index.ts'
import { openS3 } from './s3.ts'

t.test('s3', async (t) => {
  const { open } = await openS3()
  for (const { name, run } of await conformance(open)) t.test(name, run)
})
