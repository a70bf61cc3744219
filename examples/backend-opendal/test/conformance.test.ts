import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { conformance } from 'storage-proxy/conformance'
import { createOpendalBackend } from '../src/backend.ts'
import { Store } from '../src/store.ts'

const chunkBytes = 5 * 1024 * 1024
const root = await mkdtemp(join(tmpdir(), 'backend-opendal-'))
after(() => rm(root, { recursive: true }))

const subjects: Record<string, Record<string, string>> = { fs: { root } }

// With S3_ENDPOINT and S3_BUCKET set, on that bucket too.
const { S3_ENDPOINT, S3_BUCKET, S3_REGION = 'us-east-1', S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY } = process.env
if (S3_ENDPOINT !== undefined && S3_BUCKET !== undefined) {
  subjects.s3 = {
    endpoint: S3_ENDPOINT,
    bucket: S3_BUCKET,
    region: S3_REGION,
    access_key_id: S3_ACCESS_KEY_ID ?? '',
    secret_access_key: S3_SECRET_ACCESS_KEY ?? '',
    root: `/opendal-${process.pid}/`,
  }
}

for (const [service, options] of Object.entries(subjects)) {
  const open = async () => createOpendalBackend(new Store(service, options, chunkBytes))
  const cases = await conformance(open)
  describe(service, () => {
    for (const { name, run } of cases) test(name, run)
  })
}
