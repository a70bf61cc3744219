import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { currentContext, inContext, type LogContext } from '../../../lib/context.ts'
import { Notice } from '../../../lib/notice.ts'
import { begin, end } from './current.ts'
import { drain } from './drain.ts'

const controllerOf = Symbol('abort controller')

/** The answer is sent, or the connection is gone before that, as `raw.writableFinished` of the reply tells. */
export const requestEnded = new Notice<[FastifyRequest, FastifyReply]>()

declare module 'fastify' {
  interface FastifyInstance {
    /** Ends what still runs, when the time for a graceful close is over. */
    abortRequests(): void
  }
  interface FastifyRequest {
    /** Aborts when the client goes away before the response is complete, and when the service has to close. */
    abortSignal: AbortSignal
    /** Cuts the connection: all that can be done when a response that has begun cannot be completed. */
    cut(reason: string): void
    /** Aborts the work on a request that was answered past its reply. */
    giveUp(reason: string): void
    /** Why its connection is closed before the response is complete, where it is not the client that closes it. */
    abortReason: string | null
    /** Made when it is first asked for, since most requests never need it. */
    [controllerOf]: AbortController | null
  }
}

/** Tells the work of a request that nobody waits for it any more. */
export default fp(
  async (app) => {
    const running = new Map<FastifyRequest, LogContext | undefined>()
    let closing = false
    let aborting = false

    app.decorateRequest(controllerOf, null)
    app.decorateRequest('abortReason', null)
    app.decorateRequest('abortSignal', {
      getter(this: FastifyRequest) {
        this[controllerOf] ??= new AbortController()
        return this[controllerOf].signal
      },
    })

    app.decorateRequest('cut', function (this: FastifyRequest, reason: string) {
      this.abortReason = reason
      breakOff(this)
    })

    app.decorateRequest('giveUp', function (this: FastifyRequest, reason: string) {
      this.abortReason = reason
      abort(this, running.get(this), reason)
    })

    const endAnswered = (request: FastifyRequest) => {
      if (!request.raw.complete) drain(request)
      // Its headers went out before the close began, so the client would keep the connection, and the close wait for it.
      else if (closing) request.raw.socket.destroySoon()
    }

    const endUnanswered = (request: FastifyRequest, reply: FastifyReply, context: LogContext | undefined) => {
      const reason = request.abortReason ?? (aborting ? 'the service closes' : 'the client went away')
      request.log.info({ reason, responseTime: reply.elapsedTime }, 'request aborted')
      abort(request, context, reason)
    }

    app.addHook('onRequest', (request, reply, done) => {
      const context = currentContext()
      running.set(request, context)
      begin(request, reply)
      reply.raw.once('close', () => {
        running.delete(request)
        end(request, reply)
        if (reply.raw.writableFinished) endAnswered(request)
        else endUnanswered(request, reply, context)
        requestEnded.give(request, reply)
      })
      done()
    })

    app.addHook('preClose', async () => {
      closing = true
    })

    app.decorate('abortRequests', () => {
      aborting = true
      // The work is aborted before the connection, since an error of the connection would look like a failure of the
      // work.
      for (const [request, context] of running) abort(request, context, 'the service closes')
      for (const request of running.keys()) breakOff(request)
      app.server.closeAllConnections()
    })
  },
  { name: 'connection-abort', dependencies: ['request-id'] },
)

/** Runs listeners in the request's context; the socket's event has none, or another request's. */
function abort(request: FastifyRequest, context: LogContext | undefined, reason: string): void {
  const controller = request[controllerOf]
  if (controller === null) return
  const tell = () => controller.abort(new Error(reason))
  if (context === undefined) tell()
  else inContext(context, tell)
}

/**
 * Resets the connection of an HTTP/1.0 client, which would take a mere close for the end of a response without a
 * length.
 */
function breakOff({ raw }: FastifyRequest): void {
  if (raw.httpVersion === '1.0') raw.socket.resetAndDestroy()
  else raw.socket.destroy()
}
