import { Value } from '@sinclair/typebox/value'
import { pino } from 'pino'
import { s3 } from '../backends/s3/index.ts'
import { s3Options } from '../backends/s3/options.ts'
import { s3Volume } from './ceph/index.ts'

export const call = { signal: new AbortController().signal }

/** The S3 backend by itself, on a part of a bucket that is its own. */
export async function openS3(more: object = {}) {
  const { backend: _, ...volume } = await s3Volume()
  const options = Value.Parse(s3Options, { ...volume, ...more })
  const open = () => s3.create({ options, log: pino({ level: 'silent' }), ...call })
  return { options, open }
}
