import type { IncomingHttpHeaders } from 'node:http'
import type { Entry } from '../../../backends/backend.ts'
import { applicableRange, validatorsOf } from './conditions.ts'

/**
 * Whether the storage gives the bytes that are asked for, as this service would. S3 gives no several ranges, and servers
 * of it that do not know `If-Range` (Ceph 16 is one) give a part of a file that is another by now.
 */
export function storageCanAnswer(headers: IncomingHttpHeaders, entry: Entry): boolean {
  const { range } = headers
  if (range === undefined) return true
  return !range.includes(',') && applicableRange(headers, validatorsOf(entry)) !== undefined
}
