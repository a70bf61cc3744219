import type { FastifyReply } from 'fastify'
import type { OpenFile } from '../../../backends/backend.ts'
import type { Rate } from '../../access/rates.ts'
import type { HandOver } from '../../config.ts'

/**
 * Names a file to the front server, which then sends it in the place of this answer's body (nginx: X-Accel-Redirect;
 * Apache's mod_xsendfile and lighttpd: X-Sendfile; all of them decode the value like the path of a URL).
 * @returns false when this service has to send the file: the front server could not do what is asked, or the file no
 *   longer has the name that it was opened by
 */
export async function handOver(
  reply: FastifyReply,
  file: OpenFile,
  to: HandOver,
  rate: Rate | undefined,
): Promise<boolean> {
  const limiting = to.header === 'X-Accel-Redirect'
  if (rate !== undefined && !limiting) return false
  // nginx would evaluate it once more, with an ETag that it makes itself.
  if (reply.request.headers['if-match'] !== undefined) return false
  const location = await file.location?.()
  if (location === undefined) return false
  // The front server says itself what it accepts.
  reply.removeHeader('accept-ranges')
  reply.header(to.header, to.prefix + location.split('/').map(encodeURIComponent).join('/'))
  if (rate !== undefined) reply.header('X-Accel-Limit-Rate', rate.bytesPerSecond)
  return true
}
