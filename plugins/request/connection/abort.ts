import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { currentContext, inContext, type LogContext } from '../../lib/context.ts'

const controllerOf = Symbol('abort controller')

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The client may miss an early answer, since its next request is told the same. */
    mayMissAnswer?: boolean
  }
  interface FastifyInstance {
    /** Ends what still runs, when the time for a graceful close is over. */
    abortRequests(): void
    /** Resolves when the handlers of all requests have come to their end, also of those whose client is gone. */
    requestsSettled(): Promise<unknown>
  }
  interface FastifyRequest {
    /** Aborts when the client goes away before the response is complete, and when the service has to close. */
    abortSignal: AbortSignal
    /** Cuts the connection: all that can be done when a response that has begun cannot be completed. */
    cut(reason: string): void
    /** Waits for a delay that the service itself causes; meanwhile the connection does not count as idle. */
    hold(wait: Promise<void>): Promise<void>
    /** Made when it is first asked for, since most requests never need it. */
    [controllerOf]: AbortController | null
  }
}

const cutReasons = new WeakMap<FastifyRequest, string>()
/** The reply to the latest request of a connection, until it is complete. */
const replies = new WeakMap<Duplex, FastifyReply>()

export interface RunningRequest {
  id: string
  log: FastifyBaseLogger
  /** All of the request has come. */
  complete: boolean
  /** The service is reading its body. */
  reading: boolean
  answering: boolean
}

export function requestOn(socket: Duplex): RunningRequest | undefined {
  const reply = replies.get(socket)
  if (reply === undefined) return undefined
  const { id, log, raw } = reply.request
  return { id, log, complete: raw.complete, reading: raw.readableFlowing === true, answering: reply.raw.headersSent }
}

/** How long the rest of a request's body is read and thrown away after an early answer. */
const drainMilliseconds = 30_000
/** The same where the answer may be missed. Chromium reads one only when all is sent or the connection is cut. */
const shortDrainMilliseconds = 1000

/** Tells the work of a request that nobody waits for it any more. */
export default fp(
  async (app) => {
    const running = new Map<FastifyRequest, LogContext | undefined>()
    let closing = false
    let aborting = false

    app.decorateRequest(controllerOf, null)
    app.decorateRequest('abortSignal', {
      getter(this: FastifyRequest) {
        this[controllerOf] ??= new AbortController()
        return this[controllerOf].signal
      },
    })

    app.decorateRequest('cut', function (this: FastifyRequest, reason: string) {
      cutReasons.set(this, reason)
      breakOff(this)
    })

    const held = new WeakSet<Socket>()
    app.decorateRequest('hold', async function (this: FastifyRequest, wait: Promise<void>) {
      const { socket } = this.raw
      held.add(socket)
      try {
        await wait
      } finally {
        held.delete(socket)
        socket.setTimeout(app.server.timeout)
      }
    })

    app.addHook('onRequest', (request, reply, done) => {
      const context = currentContext()
      running.set(request, context)
      replies.set(request.raw.socket, reply)
      reply.raw.once('close', () => {
        running.delete(request)
        if (replies.get(request.raw.socket) === reply) replies.delete(request.raw.socket)
        if (reply.raw.writableFinished) {
          if (!request.raw.complete) drain(request)
          // Its headers went out before the close began, so the client would keep the connection, and the close wait
          // for it.
          else if (closing) request.raw.socket.destroySoon()
          return
        }
        const reason = cutReasons.get(request) ?? (aborting ? 'the service closes' : 'the client went away')
        request.log.info({ reason, responseTime: reply.elapsedTime }, 'request aborted')
        abort(request, context, reason)
      })
      done()
    })

    // Cuts a connection on which nothing moves, unless the client is waiting for this service.
    const endIdle = (socket: Socket) => {
      const running = requestOn(socket)
      const isWaiting = running !== undefined && (running.complete || !running.reading) && !running.answering
      if (held.has(socket) || isWaiting) socket.setTimeout(app.server.timeout)
      else if (running === undefined) socket.destroy()
      else replies.get(socket)?.request.cut('no byte moved for too long')
    }

    // After a process was suspended or busy, its timers fire before it gets the bytes that the kernel has for it.
    app.server.on('timeout', (socket: Socket) => {
      const before = movedOn(socket)
      setImmediate(() => {
        if (movedOn(socket) === before) endIdle(socket)
        else socket.setTimeout(app.server.timeout)
      })
    })

    app.addHook('preClose', async () => {
      closing = true
    })

    const handlers = new Set<unknown>()
    app.addHook('onRoute', (route) => {
      const { handler } = route
      route.handler = function (request, reply) {
        const result: unknown = handler.call(this, request, reply)
        if (result instanceof Promise) {
          handlers.add(result)
          const settled = () => handlers.delete(result)
          result.then(settled, settled)
        }
        return result
      }
    })
    app.decorate('requestsSettled', () => Promise.allSettled(handlers))

    app.decorate('abortRequests', () => {
      aborting = true
      // The work is aborted before its connection is, since an error of that would look like a failure of the work.
      for (const [request, context] of running) abort(request, context, 'the service closes')
      for (const request of running.keys()) breakOff(request)
      app.server.closeAllConnections()
    })
  },
  { name: 'disconnect', dependencies: ['request-id'] },
)

/** Changes when bytes come and when a write begins or ends, but not when a part of a write has gone out. */
function movedOn({ bytesRead, bytesWritten, writableLength }: Socket): string {
  return `${bytesRead} ${bytesWritten} ${writableLength}`
}

/** Runs listeners in the request's context; the socket's event has none, or another request's. */
function abort(request: FastifyRequest, context: LogContext | undefined, reason: string): void {
  const controller = request[controllerOf]
  if (controller === null) return
  const tell = () => controller.abort(new Error(reason))
  if (context === undefined) tell()
  else inContext(context, tell)
}

/**
 * Resets the connection of an HTTP/1.0 client, which would take its mere end for that of a response without a length.
 */
function breakOff({ raw }: FastifyRequest): void {
  if (raw.httpVersion === '1.0') raw.socket.resetAndDestroy()
  else raw.socket.destroy()
}

/**
 * A client that still sends a body does not read the answer yet; closing the connection now would reset it, and the
 * answer would be lost (RFC 9112, section 9.6).
 */
export function drain({ raw, log, routeOptions, server }: FastifyRequest): void {
  if (raw.complete || raw.destroyed) return
  const { socket } = raw
  // After the last answer on a connection Node ends our side of it, and would then close it.
  socket.off('finish', socket.destroy)
  raw.once('end', () => {
    if (socket.writableEnded || !server.server.listening) socket.destroySoon()
  })
  raw.unpipe()
  raw.resume()
  const milliseconds = routeOptions.config.mayMissAnswer ? shortDrainMilliseconds : drainMilliseconds
  const timer = setTimeout(() => {
    log.info('connection closed, since the client goes on sending after the answer')
    raw.destroy()
  }, milliseconds)
  raw.once('close', () => clearTimeout(timer))
}
