import type { IncomingMessage } from 'node:http'
import type { FastifyReply, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../../lib/problems.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The handler reads the body itself when it wants it, and calls `willReadBody` first. */
    readsBody?: boolean
  }
  interface FastifyReply {
    /** Tells a client that waits for it (`Expect: 100-continue`) to send its body now. */
    willReadBody(): void
  }
}

/** Methods for which Fastify reads no body. */
const bodiless = new Set(['GET', 'HEAD', 'TRACE'])

function mayHaveBody({ method }: Pick<RouteOptions, 'method'>): boolean {
  return [method].flat().some((one) => !bodiless.has(one))
}

/** Node decodes chunks only, and would leave any other coding in the body (RFC 9112, section 6.1). */
function isEncoded({ headers }: IncomingMessage): boolean {
  const coding = headers['transfer-encoding']
  return coding !== undefined && coding.toLowerCase() !== 'chunked'
}

/**
 * Lets a request be refused before its body is sent, if the client waits for permission (RFC 9110, section 10.1.1): it
 * gets that only when somebody begins to read. Node itself would give it before any route has seen the request.
 */
export default fp(
  async (app) => {
    const waiting = new WeakSet<IncomingMessage>()
    const unknown = new WeakSet<IncomingMessage>()

    app.server.on('checkContinue', (request, response) => {
      waiting.add(request)
      app.server.emit('request', request, response)
    })
    app.server.on('checkExpectation', (request, response) => {
      unknown.add(request)
      app.server.emit('request', request, response)
    })

    app.addHook('onRequest', ({ raw }, _reply, done) => {
      if (unknown.has(raw)) done(new Problem('expectation_failed', 'Expect may only be 100-continue.'))
      else if (isEncoded(raw))
        done(new Problem('transfer_coding_unsupported', 'Transfer-Encoding may only be chunked.'))
      else done()
    })

    app.decorateReply('willReadBody', function (this: FastifyReply) {
      if (waiting.delete(this.request.raw)) this.raw.writeContinue()
    })

    app.addHook('onRoute', (route) => {
      if (route.config?.readsBody || !mayHaveBody(route)) return
      const hooks = route.preParsing === undefined ? [] : [route.preParsing].flat()
      route.preParsing = [
        (_request, reply, payload, done) => {
          reply.willReadBody()
          done(null, payload)
        },
        ...hooks,
      ]
    })
  },
  { name: 'request-body', dependencies: ['errors'] },
)
