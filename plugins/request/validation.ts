import { Ajv, type ErrorObject, type SchemaValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'
import fp from 'fastify-plugin'
import { brokenRule } from '../../backends/path.ts'
import { brokenPatternRule } from '../../backends/pattern.ts'
import { late } from '../../lib/late.ts'
import { Problem } from '../../lib/problems.ts'
import { createQueryCheck, withClosedQuery } from './query.ts'

/** The schema keyword of a path inside a vfolder: says which rule is broken, as a pattern could not. */
export const pathKeyword = 'x-path'

const checkPath: SchemaValidateFunction = (rule: true | 'or-empty', path: string) => {
  if (rule === 'or-empty' && path === '') return true
  const message = brokenRule(path)
  if (message === undefined) return true
  checkPath.errors = [{ keyword: pathKeyword, message }]
  return false
}

/** The schema keyword of a glob. */
export const patternKeyword = 'x-glob'

const checkPattern: SchemaValidateFunction = (_rule: true, text: string) => {
  const message = brokenPatternRule(text)
  if (message === undefined) return true
  checkPattern.errors = [{ keyword: patternKeyword, message }]
  return false
}

/**
 * In lower case only, so that one vfolder has one name (RFC 9562, section 4: written in lower case, read in either).
 */
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

function createAjv(coerceTypes: false | 'array'): Ajv {
  const options = { removeAdditional: false, useDefaults: true, coerceTypes, validateSchema: false }
  // Verbose, so that an error has the value it is about. What is no error Ajv would tell the console.
  const ajv = formats.default(new Ajv({ ...options, verbose: true, allowUnionTypes: true }))
  ajv.addFormat('uuid', uuid)
  ajv.addKeyword({ keyword: pathKeyword, type: 'string', validate: checkPath, errors: true })
  return ajv.addKeyword({ keyword: patternKeyword, type: 'string', validate: checkPattern, errors: true })
}

// Unknown fields are refused, not removed; and JSON has types, so "5" is not a number in a body.
const body = createAjv(false)
// A query, a path and a header have only strings; an array may be given as one value.
const text = createAjv('array')

const compile: FastifySchemaCompiler<object> = ({ schema, httpPart }) => {
  const isBody = httpPart === 'body'
  const validate = (isBody ? body : text).compile(schema)
  const checkQuery = httpPart === 'querystring' ? createQueryCheck(schema) : undefined
  return (value) => {
    const broken = checkQuery?.(value)
    if (broken !== undefined) return { error: [broken] }
    return validate(value) || { error: (validate.errors ?? []).map((error) => reword(error, isBody)) }
  }
}

/** Most routes are called late or never, and to compile the schemas of all of them took a fifth of the start. */
const compileLate: FastifySchemaCompiler<object> = (route) => late(() => compile(route))

/** Says what to do where Ajv only says what did not fit. */
function reword(error: ErrorObject, isBody: boolean): ErrorObject {
  const { keyword, params, data } = error
  if (keyword === 'format' && params.format === 'uuid') return { ...error, message: 'must be a UUID in lower case' }
  const isRepeated = !isBody && keyword === 'type' && Array.isArray(data)
  return isRepeated ? { ...error, message: 'must be given once' } : error
}

/** Checks first that URLs are UTF-8, then requests against the routes' schemas. */
export default fp(
  async (app) => {
    // Not `setValidatorCompiler`: a scope that adds schemas of its own falls back to Fastify's compiler.
    app.addHook('onRoute', (route) => {
      route.validatorCompiler ??= compileLate
      route.schema = withClosedQuery(route.schema)
    })

    // Fastify leaves a value that it cannot decode as it is, so `%ff` would become a file of that name.
    app.addHook('onRequest', (request, _reply, done) => {
      try {
        if (request.url.includes('%')) decodeURIComponent(request.url)
        done()
      } catch {
        done(new Problem('invalid_url', 'The query of the URL must be percent-encoded UTF-8.'))
      }
    })
  },
  { name: 'validation', dependencies: ['errors'] },
)
