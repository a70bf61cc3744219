import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { errorCodes, type FastifyReply, type FastifyRequest, type preParsingHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { invalidHeader, Problem } from '../../lib/problems.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The handler reads the body itself when it wants it, and calls `willReadBody` first. */
    readsBody?: boolean
  }
  interface FastifyReply {
    /** Whether the client sends its body only once it is told to (`Expect: 100-continue`). */
    isAwaited(): boolean
    /** Tells a client that waits to send its body now. */
    willReadBody(): void
  }
}

/** Node decodes chunks only, and would leave any other coding in the body (RFC 9112, section 6.1). */
function isEncoded({ headers: { 'transfer-encoding': coding } }: IncomingMessage): boolean {
  return coding !== undefined && coding.toLowerCase() !== 'chunked'
}

/** Node finds its 100-continue also among others. */
function isUnknown({ headers: { expect } }: IncomingMessage): boolean {
  return expect !== undefined && expect.trim().toLowerCase() !== '100-continue'
}

/** Whether nothing comes; reads no further than to the first bytes. */
export async function isEmpty(body: Readable): Promise<boolean> {
  for await (const chunk of body.iterator({ destroyOnReturn: false })) if (chunk.length > 0) return false
  return true
}

/**
 * Refuses the body of a call that takes none: what it says would be passed over, and what is behind the headers of a GET
 * could be taken for the next request on the way (RFC 9110, section 9.3.1).
 * @throws {Problem} `validation_failed`
 */
export async function refuseBody({ raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (!announcesBody(raw)) return
  if (raw.headers['content-length'] === undefined) {
    reply.willReadBody()
    if (await isEmpty(raw)) return
  }
  throw new Problem('validation_failed', 'The body must be absent: this call takes none.', {
    members: { field: '', rule: 'must be absent: this call takes none', in: 'body' },
  })
}

/** RFC 9112, section 6.3; chunks may turn out to be empty. */
function announcesBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** Fastify would refuse a type that it cannot read, also where it is the type of nothing. */
function forgetType({ headers }: IncomingMessage): void {
  delete headers['content-type']
}

/** Refuses a body that is not what it seems: nothing here decodes one, or puts parts together (RFC 9110, section 14.5). */
const refuseDisguise: preParsingHookHandler = ({ headers }, _reply, payload, done) => {
  const codings = (headers['content-encoding'] ?? '').toLowerCase().split(',')
  // Elements of a list may be empty (RFC 9110, section 5.6.1.2).
  if (codings.some((coding) => !['', 'identity'].includes(coding.trim()))) {
    // RFC 9110, section 15.5.16.
    const options = { headers: { 'accept-encoding': 'identity' } }
    const detail = 'A body is read as it comes: Content-Encoding must be absent.'
    return done(new Problem('unsupported_media_type', detail, options))
  }
  if (headers['content-range'] !== undefined) return done(invalidHeader('Content-Range', 'must be absent'))
  done(null, payload)
}

const refuseAny: preParsingHookHandler = (request, reply, payload, done) => {
  const { raw } = request
  if (raw.headers['content-type'] !== undefined) forgetType(raw)
  if (!announcesBody(raw)) return done(null, payload)
  refuseBody(request, reply).then(() => done(null, Readable.from([])), done)
}

const letSend: preParsingHookHandler = (
  { raw, routeOptions: { bodyLimit = Number.POSITIVE_INFINITY } },
  reply,
  payload,
  done,
) => {
  if (!announcesBody(raw)) forgetType(raw)
  if (Number(raw.headers['content-length'] ?? 0) > bodyLimit) return done(new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE())
  reply.willReadBody()
  done(null, payload)
}

/**
 * Lets a request be refused before its body is sent, if the client waits for permission (RFC 9110, section 10.1.1): it
 * gets that only when somebody begins to read. Node itself would give it before any route has seen the request.
 */
export default fp(
  async (app) => {
    const waiting = new WeakSet<IncomingMessage>()

    app.server.on('checkContinue', (request, response) => {
      waiting.add(request)
      app.server.emit('request', request, response)
    })
    // Node itself would answer without a request ID.
    app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))

    app.addHook('onRequest', (request, reply, done) => {
      const { raw } = request
      if (isUnknown(raw)) done(new Problem('expectation_failed', 'Expect may only be 100-continue.'))
      else if (isEncoded(raw))
        done(new Problem('transfer_coding_unsupported', 'Transfer-Encoding may only be chunked.'))
      // It is answered before a route is asked (`cors.ts`, `methods.ts`).
      else if (request.method === 'OPTIONS' && !request.is404) refuseBody(request, reply).then(() => done(), done)
      else done()
    })

    app.decorateReply('isAwaited', function (this: FastifyReply) {
      return waiting.has(this.request.raw)
    })

    app.decorateReply('willReadBody', function (this: FastifyReply) {
      if (waiting.delete(this.request.raw)) this.raw.writeContinue()
    })

    app.addHook('onRoute', (route) => {
      const own = [route.preParsing ?? []].flat()
      if (route.config?.readsBody) route.preParsing = [refuseDisguise, ...own]
      else if (route.schema?.body) route.preParsing = [refuseDisguise, letSend, ...own]
      else route.preParsing = [refuseAny, ...own]
    })
  },
  { name: 'request-body', dependencies: ['errors'] },
)
