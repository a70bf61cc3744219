import { FastifyOtelInstrumentation } from '@fastify/otel'
import { type Span, SpanStatusCode } from '@opentelemetry/api'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { currentContext } from '../../../lib/context.ts'
import { requestEnded } from '../../request/connection/abort.ts'
import { withoutToken } from '../../request/logging.ts'
import { traceIdOf } from '../../request/request-id.ts'
import { fieldsOf } from './spans.ts'

const endOf = Symbol('end of the span')

declare module 'fastify' {
  interface FastifyRequest {
    /** Ends its span. */
    [endOf]: ((reply: FastifyReply) => void) | null
  }
}

/** A span for each request, but for those of probes. @returns what ends it */
export async function traceRequests(app: FastifyInstance): Promise<() => void> {
  app.decorateRequest(endOf, null)

  function requestHook(span: Span, request: FastifyRequest): void {
    const work = currentContext()
    const fields = fieldsOf(span)
    if (work !== undefined) Object.assign(work, fields)
    const { trace_id, span_id } = fields
    // A JSON line must not have a key twice: the trace that the caller told is bound already.
    const told = traceIdOf(request.raw) !== undefined
    request.log.setBindings({ ...(!told && { trace_id }), ...(span_id !== undefined && { span_id }) })
    if (!span.isRecording()) return
    describe(span, request)
    const end = keepOpen(span)
    request[endOf] = (reply) => {
      if (work?.origin_request_id !== undefined) span.setAttribute('origin_request_id', work.origin_request_id)
      end(reply)
    }
  }

  app.addHook('onRoute', (route) => {
    if (route.config?.isProbe) route.config = { ...route.config, otel: false }
  })
  const instrumentation = new FastifyOtelInstrumentation({
    instrumentHooks: false,
    instrumentHandler: false,
    recordExceptions: false,
    requestHook,
  })
  await app.register(instrumentation.plugin())
  return requestEnded.take((request, reply) => request[endOf]?.(reply))
}

function describe(span: Span, request: FastifyRequest): void {
  const { method, url, id, ip } = request
  const route = request.routeOptions.url
  span.updateName(route === undefined ? method : `${method} ${route}`)
  // The query, and some paths, have tokens, which permit to whoever sees a trace what they permit to the client.
  const path = withoutToken(url.split('?')[0] ?? '')
  span.setAttributes({ request_id: id, 'url.path': path, 'client.address': ip })
}

/**
 * @fastify/otel ends a span when the headers of the answer are sent, and takes each refusal for an error. A download is over
 * with its last byte, and a refusal is an answer (OpenTelemetry's conventions for HTTP: an error is 5xx, or no answer).
 * @returns what really ends it
 */
function keepOpen(span: Span): (reply: FastifyReply) => void {
  const end = span.end.bind(span)
  const setStatus = span.setStatus.bind(span)
  span.end = () => {}
  span.setStatus = () => span
  return ({ raw, statusCode, request }) => {
    if (!raw.writableFinished) {
      const reason = request.abortReason ?? 'the connection was gone before the answer was sent'
      span.setAttribute('error.type', 'aborted')
      setStatus({ code: SpanStatusCode.ERROR, message: reason })
    } else if (statusCode >= 500) {
      span.setAttribute('error.type', String(statusCode))
      setStatus({ code: SpanStatusCode.ERROR })
    }
    end()
  }
}
