import t from 'tap'
import { capabilities, capabilitiesOf } from '../../backends/capabilities.ts'
import { conformance } from '../../backends/conformance/index.ts'
import { call, openS3 } from '../s3.ts'

t.test('s3', async (t) => {
  const { open } = await openS3()
  for (const { name, run } of await conformance(open)) {
    if (capabilities.some((capability) => name.startsWith(`${capability}:`))) t.test(name, run)
  }
})

t.test('it has what S3 can do, and neither symlinks nor a size', async (t) => {
  const { open } = await openS3()
  const backend = await open()
  t.teardown(() => backend.close())
  t.same(capabilitiesOf(backend), ['copy', 'clone', 'count', 'presign', 'presignUpload', 'mount', 'trash'])
  await t.resolves(backend.health(call))
})
