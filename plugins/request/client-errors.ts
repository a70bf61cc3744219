import { randomUUID } from 'node:crypto'
import { type IncomingMessage, maxHeaderSize, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { inContext } from '../../lib/context.ts'
import { Problem, type ProblemCode } from '../../lib/problems.ts'
import { requestOn } from './connection/current.ts'
import { logRefusal, problemMediaType, routeNotFound, toDocument } from './errors.ts'
import { contextOf, requestIdHeader, requestIdOf, warnIfReplaced } from './request-id.ts'

const clientErrors: Record<string, [ProblemCode, detail: string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['request_timeout', 'The headers of the request did not come to an end in time.'],
  HPE_HEADER_OVERFLOW: ['headers_too_large', `The URL and the headers are over the limit of ${maxHeaderSize} bytes.`],
}
const nonsense: [ProblemCode, detail: string] = ['bad_request', 'This is not a request that HTTP/1.1 allows.']

/** Fastify's `clientErrorHandler`: bytes that are no HTTP request. They get an ID and an answer all the same. */
export function handleClientError(this: FastifyInstance, error: Error & { code?: string }, socket: Socket): void {
  const [code, detail] = clientErrors[error.code ?? ''] ?? nonsense
  const running = requestOn(socket)
  const id = running?.request.id ?? randomUUID()
  const log = running?.request.log ?? this.log
  // Not the error itself: it holds the packet, which may hold a token.
  inContext({ request_id: id }, () => log.info({ code, reason: error.message }, 'client error'))
  if (error.code === 'ECONNRESET') socket.destroy()
  else answer(socket, new Problem(code, detail), id)
}

/** Without a listener Node would close the connection of a CONNECT without an answer. */
function handleConnect(app: FastifyInstance, request: IncomingMessage, socket: Duplex): void {
  const id = requestIdOf(request)
  const problem = routeNotFound(request)
  inContext(contextOf(request, id), () => {
    warnIfReplaced(request, id, app.log)
    logRefusal(problem, app.log)
  })
  // Node no longer handles errors of the socket, and one that nobody listens for would end the process.
  socket.on('error', () => {})
  answer(socket, problem, id)
}

/** Writes a problem document to a connection that has no response of Node's, and closes it. */
function answer(socket: Duplex, problem: Problem, id: string): void {
  // The client would take this answer for a part of a response that is under way, also to an earlier request.
  const running = requestOn(socket)
  if (!socket.writable || running?.complete || running?.answering) {
    socket.destroy()
    return
  }
  const document = toDocument(problem, id)
  const body = JSON.stringify(document)
  const head = [
    `HTTP/1.1 ${document.status} ${STATUS_CODES[document.status]}`,
    `${requestIdHeader}: ${id}`,
    `content-type: ${problemMediaType}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy())
}

/** Answers what never becomes a request of Fastify's. */
export default fp(
  async (app) => {
    app.server.on('connect', (request, socket) => handleConnect(app, request, socket))
  },
  { name: 'client-errors', dependencies: ['errors', 'connection-abort'] },
)
