import { type IncomingMessage, METHODS, maxHeaderSize, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyInstance, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { inContext, newRequestId } from '../../lib/context.ts'
import { Problem, type ProblemCode } from '../../lib/problems.ts'
import { afterAnswers, hasServed, responseOn, unfinishedOn } from './connection/current.ts'
import { linger } from './connection/linger.ts'
import { headersForPages, isForPages } from './cors.ts'
import { logRefusal, problemMediaType, routeNotFound, toDocument } from './errors.ts'
import { contextOf, requestIdHeader, requestIdOf, warnIfReplaced } from './request-id.ts'

/** Where in a request the parser is when it fails. */
type Place = 'head' | 'body'

const firstLine = /^([A-Z][A-Z-]*) \S+ HTTP\/1\.[01]\r\n/

const limit = `over the limit of ${maxHeaderSize} bytes`

/** Codes of llhttp and of Node; any other one of llhttp stands for bytes that cannot be parsed. */
const known: Record<string, (place: Place) => [ProblemCode, detail: string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: () => ['request_timeout', 'The headers of the request did not come to an end in time.'],
  HPE_HEADER_OVERFLOW: (place) => [
    'headers_too_large',
    place === 'head' ? `The URL and the headers are ${limit}.` : `The trailers of the body are ${limit}.`,
  ],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: () => ['bad_request', `The extensions of a chunk are ${limit}.`],
  HPE_INVALID_EOF_STATE: (place) => [
    'bad_request',
    place === 'head'
      ? 'The connection ended before the headers of the request did.'
      : 'The connection ended before the body of the request did.',
  ],
}

function toClientProblem(code: string, place: Place, isFirst: boolean): Problem {
  const [found, detail] = known[code]?.(place) ?? ['bad_request', unparsable(place, isFirst)]
  return new Problem(found, detail)
}

function unparsable(place: Place, isFirst: boolean): string {
  if (place === 'body') return 'The chunks or the trailers of the body are not as HTTP/1.1 has them.'
  const what = isFirst ? 'This' : 'What follows the last request, and the length that its body was said to have,'
  return `${what} is not a request that HTTP/1.1 allows.`
}

/** The parser fails again with each further packet. */
const failed = new WeakSet<Socket>()

/**
 * Fastify's `clientErrorHandler`: bytes that are no HTTP request, or break one off. They get an ID and an answer all the
 * same, after the answers to the requests before them.
 */
export function handleClientError(this: FastifyInstance, error: ClientError, socket: Socket): void {
  if (failed.has(socket)) return
  failed.add(socket)
  const { code = '' } = error
  const broken = unfinishedOn(socket)
  if (code === 'HPE_CLOSED_CONNECTION') {
    // What follows the last request of a connection is not to be looked at (RFC 9112, section 9.6).
    afterAnswers(socket, undefined, () => linger(socket))
  } else if (!code.startsWith('HPE_') && !(code in known)) {
    // The connection itself broke; "request aborted" tells it of each request.
    socket.destroy()
  } else {
    refuse(this, error, socket, broken)
  }
}

interface ClientError extends Error {
  code?: string
  /** What was being parsed, as a buffer, whatever Fastify's types say. */
  rawPacket?: unknown
}

function refuse(app: FastifyInstance, error: ClientError, socket: Socket, broken: FastifyReply | undefined): void {
  const problem =
    (broken === undefined ? problemOfFirstLine(error) : undefined) ??
    toClientProblem(error.code ?? '', broken === undefined ? 'head' : 'body', !hasServed(socket))
  const id = broken?.request.id ?? newRequestId()
  const log = broken?.request.log ?? app.log
  afterAnswers(socket, broken, () => {
    // It was answered early, as far as the client may know.
    if (broken?.raw.headersSent) {
      afterAnswers(socket, undefined, () => linger(socket))
      return
    }
    const { code, message: detail } = problem
    // Not the error itself: it holds the packet, which may hold a token.
    inContext({ request_id: id }, () => log.info({ code, detail, reason: error.message }, 'client error'))
    answer(socket, problem, id, originHeadersOf(app, error, broken))
    broken?.request.giveUp(error.code === 'HPE_INVALID_EOF_STATE' ? 'the client went away' : 'the request is not whole')
  })
}

function problemOfFirstLine(error: ClientError): Problem | undefined {
  if (isLongUrl(error)) return new Problem('url_too_long', `The URL is ${limit}.`)
  if (error.code !== 'HPE_INVALID_METHOD') return undefined
  // Its head is well-formed, and the parser knows the methods that are registered. Behind a request, it is garbage.
  const method = firstLine.exec(textOf(error.rawPacket))?.[1]
  const isUnknown = method !== undefined && !METHODS.includes(method)
  return isUnknown ? new Problem('method_unknown', 'No path takes this method.') : undefined
}

/** Whether the URL alone is too long, as far as it came with the beginning of its request. */
function isLongUrl({ code, rawPacket }: ClientError): boolean {
  if (code !== 'HPE_HEADER_OVERFLOW') return false
  const url = /^[A-Z-]+ ([^ \r\n]*)/.exec(textOf(rawPacket))?.[1] ?? ''
  return url.length > maxHeaderSize
}

function textOf(packet: unknown): string {
  return packet instanceof Uint8Array ? new TextDecoder('latin1').decode(packet) : ''
}

/** For pages too, also where the URL is not known. An origin is taken from the packet only if it is one of ours. */
function originHeadersOf(app: FastifyInstance, { rawPacket }: ClientError, broken: FastifyReply | undefined) {
  if (broken !== undefined && !isForPages(broken.request.url)) return {}
  if (broken !== undefined) return headersForPages(app.config, broken.request.headers.origin)
  return headersForPages(app.config, /^origin:[ \t]*(\S+)/im.exec(textOf(rawPacket))?.[1])
}

/** Without a listener Node would close the connection of a CONNECT without an answer. */
function handleConnect(app: FastifyInstance, request: IncomingMessage, socket: Duplex): void {
  const id = requestIdOf(request)
  const problem = routeNotFound(request)
  inContext(contextOf(request, id), () => {
    warnIfReplaced(request, id, app.log)
    logRefusal(problem, app.log)
  })
  // Node lets go of the socket, also where answers to earlier requests are still to be sent.
  socket.on('error', () => {})
  socket.on('drain', () => responseOn(socket)?.emit('drain'))
  socket.on('timeout', () => app.server.emit('timeout', socket))
  socket.resume()
  afterAnswers(socket, undefined, () => answer(socket, problem, id))
}

/** Writes a problem document to a connection that has no response of Node's, and closes it. */
function answer(socket: Duplex, problem: Problem, id: string, headers: Record<string, string> = {}): void {
  if (!socket.writable) {
    linger(socket)
    return
  }
  const document = toDocument(problem, id)
  const body = JSON.stringify(document)
  const head = [
    `HTTP/1.1 ${document.status} ${STATUS_CODES[document.status]}`,
    `${requestIdHeader}: ${id}`,
    `content-type: ${problemMediaType}`,
    `content-length: ${Buffer.byteLength(body)}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    'connection: close',
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
  linger(socket)
}

/** Answers what never becomes a request of Fastify's. */
export default fp(
  async (app) => {
    app.server.on('connect', (request, socket) => handleConnect(app, request, socket))
  },
  { name: 'client-errors', dependencies: ['config', 'errors', 'connection-abort'] },
)
