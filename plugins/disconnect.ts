import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Ends what still runs, when the time for a graceful close is over. */
    abortRequests(): void
  }
  interface FastifyRequest {
    /** Aborts when the client goes away before the response is complete, and when the service has to close. */
    abortSignal: AbortSignal
  }
}

const controllers = new WeakMap<FastifyRequest, AbortController>()

/** After an early answer the rest of a request's body is read and thrown away for so long. */
const drainMilliseconds = 30_000

/** Tells the work of a request that nobody waits for it any more. */
export default fp(
  async (app) => {
    const running = new Set<FastifyReply>()
    let closing = false

    app.decorateRequest('abortSignal', {
      getter(this: FastifyRequest) {
        let controller = controllers.get(this)
        if (controller === undefined) {
          controller = new AbortController()
          controllers.set(this, controller)
        }
        return controller.signal
      },
    })

    app.addHook('onRequest', (request, reply, done) => {
      running.add(reply)
      reply.raw.once('close', () => {
        running.delete(reply)
        if (reply.raw.writableFinished) {
          drain(request)
          return
        }
        const reason = closing ? 'the service closes' : 'the client went away'
        request.log.info({ reason, responseTime: reply.elapsedTime }, 'request aborted')
        controllers.get(request)?.abort(new Error(reason))
      })
      done()
    })

    app.decorate('abortRequests', () => {
      closing = true
      for (const { raw } of running) raw.destroy()
    })
  },
  { name: 'disconnect', dependencies: ['request-id'] },
)

/**
 * A client that still sends a body does not read the answer yet; closing the connection now would reset it, and the
 * answer would be lost (RFC 9112, section 9.6).
 */
function drain({ raw, log }: FastifyRequest): void {
  if (raw.complete || raw.destroyed) return
  raw.unpipe()
  raw.resume()
  const timer = setTimeout(() => {
    log.info('connection closed, since the client goes on sending after the answer')
    raw.destroy()
  }, drainMilliseconds)
  raw.once('close', () => clearTimeout(timer))
}
