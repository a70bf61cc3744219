import type { FastifyInstance } from 'fastify'
import { fittingId, setOtherRequestId } from '../../plugins/request/request-id.ts'

/**
 * Echoes the request ID by the name that Backend.AI has for it as well. Where a request has two of them ours is the
 * request's, and the lines of the log have both.
 */
export function echoRequestId(app: FastifyInstance, header: string): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const given = request.headers[header]
    if (given === undefined || given === request.id) return done()
    const other = fittingId(given)
    if (other === undefined) request.log.warn({ header }, 'request ID does not fit the rule and was replaced')
    else setOtherRequestId(request, other)
    done()
  })

  app.addHook('onSend', (request, reply, _payload, done) => {
    reply.header(header, fittingId(request.headers[header]) ?? request.id)
    done()
  })
}
