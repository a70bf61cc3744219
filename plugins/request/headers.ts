import type { IncomingMessage } from 'node:http'
import fp from 'fastify-plugin'
import { invalidHeader, Problem } from '../../lib/problems.ts'

/**
 * What the service reads and what a message has once (RFC 9110, section 5.3): of two lines Node drops one or joins both,
 * and a proxy in front may have gone by the other one. The digests are lists, but one that is given twice could mean
 * two files.
 *
 * Not here: lists, whose lines belong together; Content-Length, which Node's parser looks after; traceparent, which
 * counts as absent when it is given twice (the test suite of W3C Trace Context); and X-Backend-Request-ID, of which two
 * are replaced as one that does not fit its rule is.
 */
const single = [
  'Access-Control-Request-Method',
  'Authorization',
  'Content-Digest',
  'Content-Range',
  'Content-Type',
  'Expect',
  'Host',
  'If-Modified-Since',
  'If-Range',
  'If-Unmodified-Since',
  'Last-Event-ID',
  'Origin',
  'Range',
  'Repr-Digest',
  'Tus-Resumable',
  'Upload-Checksum',
  'Upload-Concat',
  'Upload-Defer-Length',
  'Upload-Length',
  'Upload-Metadata',
  'Upload-Offset',
  'X-HTTP-Method-Override',
]

const indexes = new Map(single.map((name, index) => [name.toLowerCase(), index]))
const hostBit = 1 << single.indexOf('Host')

function refusalOf({ rawHeaders, httpVersion }: IncomingMessage): Problem | undefined {
  let seen = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const index = indexes.get(rawHeaders[at]?.toLowerCase() ?? '')
    if (index === undefined) continue
    const bit = 1 << index
    if (seen & bit) return bit === hostBit ? needsHost() : invalidHeader(single[index] ?? '', 'must be given once')
    seen |= bit
  }
  // Node's own answer would have no request ID.
  return (seen & hostBit) === 0 && httpVersion === '1.1' ? needsHost() : undefined
}

/** RFC 9112, section 3.2. */
function needsHost(): Problem {
  return new Problem('bad_request', 'A request needs one Host header.')
}

/** Refuses a request that says two things where there may be one. */
export default fp(
  async (app) => {
    // Node would drop what comes after the first 2000 without a word. Their size is limited in any case.
    app.server.maxHeadersCount = 0
    app.addHook('onRequest', ({ raw }, _reply, done) => done(refusalOf(raw)))
  },
  { name: 'headers', dependencies: ['errors', 'request-id'] },
)
