import type { IncomingMessage } from 'node:http'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { currentContext, enterContext, type LogContext, newRequestId, traceparent } from '../../lib/context.ts'

export const requestIdHeader = 'x-backend-request-id'

declare module 'fastify' {
  interface FastifyBaseLogger {
    /** Adds fields to all further lines of this very logger; pino's, and cheaper than one more child. */
    setBindings(bindings: Partial<LogContext>): void
  }
}

const valid = /^[A-Za-z0-9._:-]{1,128}$/

/**
 * Fastify's `genReqId`. Fastify binds it to the request's child logger before any hook runs, so that its own
 * "incoming request" line has it too. The caller's ID where it fits the rule, else a new one.
 */
export function requestIdOf(request: IncomingMessage): string {
  return fittingId(request.headers[requestIdHeader]) ?? newRequestId()
}

/** The name that clients of another service give the header, on the paths below a prefix. */
export interface OtherHeader {
  name: string
  prefix: string
}

/** The same, where ours is absent also by another name. Its scope warns of a value that does not fit, and echoes it. */
export function requestIdAlsoBy({ name, prefix }: OtherHeader): (request: IncomingMessage) => string {
  return (request) => {
    const { headers, url } = request
    const isOurs = headers[requestIdHeader] !== undefined || !url?.startsWith(prefix)
    return (isOurs ? undefined : fittingId(headers[name])) ?? requestIdOf(request)
  }
}

/** What fits the rule of request IDs. */
export function fittingId(given: unknown): string | undefined {
  return typeof given === 'string' && valid.test(given) ? given : undefined
}

/** Version 00 ends with the flags, later ones may go on (W3C Trace Context, section 3.2); two lines, joined, do neither. */
const traceparentRule = /^(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?![^-])/

export function traceIdOf({ headers }: IncomingMessage): string | undefined {
  return typeof headers.traceparent === 'string' ? traceparentRule.exec(headers.traceparent)?.[1] : undefined
}

/** The fields that a request's lines begin with. */
export function contextOf(request: IncomingMessage, id: string): LogContext {
  const traceId = traceIdOf(request)
  if (traceId === undefined) return { request_id: id }
  // As in version 00, whose length is this; what later ones add is not known here.
  return { request_id: id, trace_id: traceId, [traceparent]: `00${request.headers.traceparent?.slice(2, 55)}` }
}

/** Warns when the caller's ID was replaced, without quoting that: it may be anything. */
export function warnIfReplaced({ headers }: IncomingMessage, id: string, log: FastifyBaseLogger): void {
  const given = headers[requestIdHeader]
  if (given === undefined || given === id) return
  log.warn({ header: requestIdHeader }, 'request ID does not fit the rule and was replaced')
}

/** Joins this request's lines with those of the request that signed its URL. To be called from the request's own work. */
export function setOriginRequestId(request: FastifyRequest, id: string): void {
  const context = currentContext()
  if (context?.request_id === request.id) context.origin_request_id = id
  request.log.setBindings({ origin_request_id: id })
}

/** The ID that the caller gave by another name of the header, beside the request's own. */
export function otherIdOf({ headers, url }: IncomingMessage, id: string, other: OtherHeader): string | undefined {
  const given = url?.startsWith(other.prefix) ? fittingId(headers[other.name]) : undefined
  return given === id ? undefined : given
}

/** Adds it to what the request's work logs elsewhere. To be called from that; the request's own lines have it already. */
export function setOtherRequestId(request: FastifyRequest, id: string): void {
  const context = currentContext()
  if (context?.request_id === request.id) context.backend_ai_request_id = id
}

/** Takes, carries and returns the request ID: docs/request-id.md. */
export default fp(
  async (app) => {
    app.addHook('onRequest', (request, _reply, done) => {
      warnIfReplaced(request.raw, request.id, request.log)
      // Not `run`, which costs twice as much; Node itself ends this context with the event that brought the request.
      enterContext(contextOf(request.raw, request.id))
      done()
    })

    app.addHook('onSend', (request, reply, _payload, done) => {
      reply.header(requestIdHeader, request.id)
      done()
    })
  },
  { name: 'request-id' },
)
