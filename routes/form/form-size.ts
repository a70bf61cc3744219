import type { FastifyRequest } from 'fastify'
import { boundaryOf } from './parts.ts'

const endOfHeaders = Buffer.from('\r\n\r\n')
/** Longer headers of a part are refused by the parser. */
const longestHeaders = 128 * 1024

/**
 * How many bytes of files a form announces, to be asked when its first part has begun: all of the body but the headers
 * of that part and the end of the form (RFC 2046, section 5.1.1). That is exact for one file, a little more than the
 * truth for several, and 0 when the request does not say its size.
 */
export function announcedBytes(request: FastifyRequest): () => number {
  const { raw, headers } = request
  const total = Number(headers['content-length'] ?? 0)
  const end = `\r\n--${boundaryOf(request)}--\r\n`.length
  let head = Buffer.alloc(0)
  let start: number | undefined

  const look = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk])
    const found = head.indexOf(endOfHeaders)
    if (found >= 0) start = found + endOfHeaders.length
    if (found >= 0 || head.length > longestHeaders) {
      raw.off('data', look)
      head = Buffer.alloc(0)
    }
  }
  raw.on('data', look)
  return () => Math.max(0, total - (start ?? 0) - end)
}
