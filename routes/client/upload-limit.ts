import type { IncomingHttpHeaders } from 'node:http'
import type { Permission } from '../../plugins/access/signed-urls.ts'
import type { Config } from '../../plugins/config.ts'

/** How large a file may be: what the service and what the token allow. */
export function uploadLimitOf({ uploadMaxBytes }: Config, { maxBytes = uploadMaxBytes }: Permission): number {
  return Math.min(uploadMaxBytes, maxBytes)
}

/** How many bytes the body will have; undefined when it comes in chunks. Without either header it has none. */
export function announcedLengthOf(headers: IncomingHttpHeaders): number | undefined {
  return headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : undefined
}
