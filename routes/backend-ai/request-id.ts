import type { FastifyInstance } from 'fastify'
import { fittingId, type OtherHeader, otherIdOf, setOtherRequestId } from '../../plugins/request/request-id.ts'

/**
 * Echoes the request ID by the name that Backend.AI has for it as well. Where a request has two of them ours is the
 * request's, and the lines of the log have both.
 */
export function echoRequestId(app: FastifyInstance, otherHeader: OtherHeader): void {
  const { name: header } = otherHeader
  app.addHook('onRequest', (request, _reply, done) => {
    const given = request.headers[header]
    const other = otherIdOf(request.raw, request.id, otherHeader)
    if (other !== undefined) setOtherRequestId(request, other)
    else if (given !== undefined && given !== request.id) {
      request.log.warn({ header }, 'request ID does not fit the rule and was replaced')
    }
    done()
  })

  app.addHook('onSend', (request, reply, _payload, done) => {
    reply.header(header, fittingId(request.headers[header]) ?? request.id)
    done()
  })
}
