import { S3Client } from '@aws-sdk/client-s3'
import type { S3Server } from '../test/ceph/index.ts'

/** The SDK with nothing configured but where the server is. */
export function s3Client({ endpoint, region, accessKeyId, secretAccessKey }: S3Server): S3Client {
  return new S3Client({ endpoint, region, credentials: { accessKeyId, secretAccessKey }, forcePathStyle: true })
}
