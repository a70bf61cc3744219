import type { IncomingHttpHeaders } from 'node:http'
import type { Entry } from '../../../backends/backend.ts'
import { applicableRange, validatorsOf } from './conditions.ts'

/**
 * Whether the storage would answer with the same bytes as this service. S3 does not send several ranges at once, and a
 * server that does not know `If-Range` (such as Ceph 16) sends a range even of a file that has changed.
 */
export function storageCanAnswer(headers: IncomingHttpHeaders, entry: Entry): boolean {
  const { range } = headers
  if (range === undefined) return true
  return !range.includes(',') && applicableRange(headers, validatorsOf(entry)) !== undefined
}
