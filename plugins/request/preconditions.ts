import fp from 'fastify-plugin'
import { invalidHeader } from '../../lib/problems.ts'
import { type HeaderName, requestHeaders } from './openapi-headers.ts'

/** What a client sends so that a change is made only if it holds. */
const names: HeaderName[] = ['If-Match', 'If-None-Match', 'If-Unmodified-Since', 'Content-Digest', 'Repr-Digest']

/** Digests that no call reads, since others have taken their place (RFC 9530, section 1.3; RFC 7231, appendix B). */
const obsolete = ['Digest', 'Content-MD5']

const reading = ['GET', 'HEAD', 'OPTIONS']

/**
 * Refuses a precondition, or a digest, of a change by a call that does not read it: the change would be made although what
 * the client asks for does not hold. A call reads those that its schema names.
 */
export default fp(
  async (app) => {
    app.addHook('onRoute', (route) => {
      if ([route.method].flat().every((method) => reading.includes(method))) return
      const read = route.schema?.[requestHeaders] ?? []
      const unread = [
        ...obsolete.map((name) => ({ name, rule: 'must be absent: Content-Digest has taken its place' })),
        ...names
          .filter((name) => !read.includes(name))
          .map((name) => ({ name, rule: 'must be absent: only a PUT of one file is made to depend on it' })),
      ].map((one) => ({ ...one, key: one.name.toLowerCase() }))
      route.preParsing = [
        ({ headers }, _reply, payload, done) => {
          const found = unread.find(({ key }) => headers[key] !== undefined)
          if (found === undefined) done(null, payload)
          else done(invalidHeader(found.name, found.rule))
        },
        ...[route.preParsing ?? []].flat(),
      ]
    })
  },
  { name: 'preconditions', dependencies: ['errors'] },
)
