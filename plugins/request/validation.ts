import type { IncomingMessage } from 'node:http'
import { Ajv, type ErrorObject, type SchemaValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'
import fp from 'fastify-plugin'
import { brokenRule } from '../../backends/path.ts'
import { invalid, Problem } from '../../lib/problems.ts'

/** The schema keyword of a path inside a vfolder: says which rule is broken, as a pattern could not. */
export const pathKeyword = 'x-path'

const checkPath: SchemaValidateFunction = (rule: true | 'or-empty', path: string) => {
  if (rule === 'or-empty' && path === '') return true
  const message = brokenRule(path)
  if (message === undefined) return true
  checkPath.errors = [{ keyword: pathKeyword, message }]
  return false
}

/**
 * In lower case only, so that one vfolder has one name (RFC 9562, section 4: written in lower case, read in either).
 */
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

function createAjv(coerceTypes: false | 'array'): Ajv {
  // Verbose, so that an error has the value it is about.
  const options = { removeAdditional: false, useDefaults: true, coerceTypes, validateSchema: false, verbose: true }
  const ajv = formats.default(new Ajv(options))
  ajv.addFormat('uuid', uuid)
  return ajv.addKeyword({ keyword: pathKeyword, type: 'string', validate: checkPath, errors: true })
}

// Unknown fields are refused, not removed; and JSON has types, so "5" is not a number in a body.
const body = createAjv(false)
// A query, a path and a header have only strings; an array may be given as one value.
const text = createAjv('array')

const compile: FastifySchemaCompiler<object> = ({ schema, httpPart }) => {
  const isBody = httpPart === 'body'
  const validate = (isBody ? body : text).compile(schema)
  return (value) => validate(value) || { error: (validate.errors ?? []).map((error) => reword(error, isBody)) }
}

/** Says what to do where Ajv only says what did not fit. */
function reword(error: ErrorObject, isBody: boolean): ErrorObject {
  const { keyword, params, data } = error
  if (keyword === 'format' && params.format === 'uuid') return { ...error, message: 'must be a UUID in lower case' }
  const isRepeated = !isBody && keyword === 'type' && Array.isArray(data)
  return isRepeated ? { ...error, message: 'must be given once' } : error
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** The problem of a body that is JSON but that Fastify's parser refuses. */
function refusedMember(): Problem {
  return invalid('body', '__proto__', 'must be absent, and so must a constructor with a prototype')
}

/** Node takes the first Host header and ignores the others, but a proxy in front may have taken another one. */
function countHosts({ rawHeaders }: IncomingMessage): number {
  let hosts = 0
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]?.toLowerCase() === 'host') hosts++
  return hosts
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Checks first that URLs and JSON are UTF-8, then requests against the routes' schemas. */
export default fp(
  async (app) => {
    // Not `setValidatorCompiler`: a scope that adds schemas of its own falls back to Fastify's compiler.
    app.addHook('onRoute', (route) => {
      route.validatorCompiler ??= compile
    })

    // Fastify leaves a value that it cannot decode as it is, so `%ff` would become a file of that name.
    app.addHook('onRequest', (request, _reply, done) => {
      // RFC 9112, section 3.2; Node's own answer would have no request ID.
      const hosts = countHosts(request.raw)
      if (hosts > 1 || (hosts === 0 && request.raw.httpVersion === '1.1')) {
        return done(new Problem('bad_request', 'A request needs one Host header.'))
      }
      try {
        if (request.url.includes('%')) decodeURIComponent(request.url)
        done()
      } catch {
        done(new Problem('invalid_url', 'The query of the URL must be percent-encoded UTF-8.'))
      }
    })

    // JSON is UTF-8 (RFC 8259, section 8.1); other bytes would become U+FFFD, and two names the same.
    const parse = app.getDefaultJsonParser('error', 'error')
    app.removeAllContentTypeParsers()
    app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
      let text: string
      try {
        text = utf8.decode(bytes)
      } catch {
        return done(new Problem('malformed_json', 'The body must be UTF-8.'))
      }
      parse(request, text, (error, body) => done(error && isJson(text) ? refusedMember() : error, body))
    })
  },
  { name: 'validation', dependencies: ['errors'] },
)
