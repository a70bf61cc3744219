import type { IncomingMessage } from 'node:http'
import { errorCodes, type FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { findDuplicateKey } from '../../lib/duplicate-key.ts'
import { invalid, Problem } from '../../lib/problems.ts'
import { isEmpty } from './request-body.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true })

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** JSON has no parameter `charset`, but many send one. */
function isUtf8(contentType = ''): boolean {
  const charsets = [...contentType.matchAll(/;[ \t]*charset[ \t]*=[ \t]*"?([^";\s]*)/gi)]
  return charsets.every(([, charset]) => charset?.toLowerCase() === 'utf-8')
}

/** The problem of a body that is JSON but that Fastify's parser refuses. */
function refusedMember(): Problem {
  return invalid('body', '__proto__', 'must be absent, and so must a constructor with a prototype')
}

/** Reads bodies that are JSON in UTF-8. A body that is not there is an object without members, whatever its type. */
export default fp(
  async (app) => {
    // JSON is UTF-8 (RFC 8259, section 8.1); other bytes would become U+FFFD, and two names the same.
    const parse = app.getDefaultJsonParser('error', 'error')
    app.removeAllContentTypeParsers()
    app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
      if (bytes.length === 0) return done(null, undefined)
      if (!isUtf8(request.headers['content-type'])) {
        return done(new Problem('unsupported_media_type', 'JSON is UTF-8: charset must be absent, or utf-8.'))
      }
      let text: string
      try {
        text = utf8.decode(bytes)
      } catch {
        return done(new Problem('malformed_json', 'The body must be UTF-8.'))
      }
      parse(request, text, (error, body) => {
        if (error) return done(isJson(text) ? refusedMember() : error)
        // The parser takes the last of them, and a proxy in front may have gone by the first.
        const twice = findDuplicateKey(text)
        done(twice === undefined ? null : invalid('body', twice, 'must be given once'), body)
      })
    })

    app.addContentTypeParser('*', async (_request: FastifyRequest, payload: IncomingMessage) => {
      if (!(await isEmpty(payload))) throw new errorCodes.FST_ERR_CTP_INVALID_MEDIA_TYPE()
    })

    app.addHook('onRoute', (route) => {
      if (route.schema?.body === undefined) return
      route.preValidation = [
        (request, _reply, done) => {
          if (request.body === undefined) request.body = {}
          done()
        },
        ...[route.preValidation ?? []].flat(),
      ]
    })
  },
  { name: 'json', dependencies: ['errors', 'request-body'] },
)
