import { type FastifyBaseLogger, type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import { type Bindings, type ChildLoggerOptions, type DestinationStream, type Logger, pino } from 'pino'
import { contextLogging, newRequestId, withRequestId } from '../../lib/context.ts'
import { createLogStream } from './log-stream.ts'
import { type OtherHeader, otherIdOf, traceIdOf } from './request-id.ts'

/** What Fastify logs with. */
export interface Loggers {
  /** Its lines carry the context that they are logged in; lines of a request's logger carry the fields bound to it. */
  loggerInstance: FastifyBaseLogger
  logController: LogController
}

const serializers = { req, res, err: pino.stdSerializers.err }

/** JSON lines on stdout; on a terminal, lines for people. */
export function openLog(level: string): DestinationStream {
  if (process.stdout.isTTY) return pino.transport({ target: 'pino-pretty', options: { translateTime: 'HH:MM:ss.l' } })
  const logDropped = withRequestId(
    (dropped: number) => logger.warn({ dropped }, 'lines of the log were dropped'),
    newRequestId(),
  )
  const stream = createLogStream(process.stdout.fd, logDropped)
  const logger = createLogger(level, stream)
  return stream
}

/** A logger whose lines carry the context that they are logged in. */
export function createLogger(level: string, destination: DestinationStream): Logger {
  return pino({ level, serializers, ...contextLogging }, destination)
}

/** @param otherHeader another name of the header of request IDs */
export function createLoggers(level: string, otherHeader?: OtherHeader): Loggers {
  const destination = openLog(level)
  // A child itself, since its children cost less to make than those of a root logger. Options cost as well, even empty
  // ones.
  const requests = pino({ level, serializers }, destination).child({})
  const loggerInstance: FastifyBaseLogger = createLogger(level, destination)
  const { child } = loggerInstance
  // Not by Fastify's `childLoggerFactory`: Fastify inspects the logger that it makes, again for each request.
  Object.assign(loggerInstance, {
    child(this: FastifyBaseLogger, bindings: Bindings, given?: ChildLoggerOptions) {
      if (!(fastifyRequestId in bindings)) return child.call(this, bindings, given)
      const options = given !== undefined && Object.keys(given).length > 0 ? given : undefined
      return requests.child({ request_id: bindings[fastifyRequestId] }, options)
    },
  })
  return { loggerInstance, logController: new RequestLines(otherHeader) }
}

/** Only Fastify binds this field, so it marks a request's own logger. */
const fastifyRequestId = 'Fastify: request ID'

/** Fastify's own lines about a request. The fields that all of them carry are bound before the first one. */
class RequestLines extends LogController {
  readonly #otherHeader: OtherHeader | undefined

  constructor(otherHeader: OtherHeader | undefined) {
    super({ requestIdLogLabel: fastifyRequestId })
    this.#otherHeader = otherHeader
  }

  override incomingRequest(request: FastifyRequest, reply: FastifyReply): void {
    const traceId = traceIdOf(request.raw)
    if (traceId !== undefined) request.log.setBindings({ trace_id: traceId })
    const otherId = this.#otherHeader && otherIdOf(request.raw, request.id, this.#otherHeader)
    if (otherId !== undefined) request.log.setBindings({ backend_ai_request_id: otherId })
    super.incomingRequest(request, reply)
  }
}

function req({ method, originalUrl, ip }: FastifyRequest) {
  return { method, url: withoutToken(originalUrl), remoteAddress: ip }
}

function res({ statusCode }: FastifyReply) {
  return { statusCode }
}

const tokenQuery = /([?&;]token=)[^&]*/gi
const signedToken = /[\w-]{8}\.[\w-]{40,}\.[\w-]{43}/g
/** The token of an upload looks like a name, so it is hidden where a client may have put it: behind the upload's ID. */
const behindUpload = /(\/upload\/(?:tus|direct)\/[^/?&]+\/)[^?&]+/g

/** Hides tokens, also unusually encoded ones: a reader of the log could do what a token permits. */
export function withoutToken(url: string): string {
  if (!url.includes('%')) return hideTokens(url)
  const [asWritten, plain] = [hideTokens(url), hideTokens(decode(url))]
  return decode(asWritten) === plain ? asWritten : plain
}

function hideTokens(url: string): string {
  return url
    .replace(tokenQuery, '$1[redacted]')
    .replace(signedToken, '[redacted]')
    .replace(behindUpload, '$1[redacted]')
}

/** Decodes only ASCII, which is all that a token has, even when it was encoded more than once. */
function decode(url: string): string {
  return url.replace(/%(?:25)*([2-7][\da-f])/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
}
