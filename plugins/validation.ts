import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import fp from 'fastify-plugin'

// Unknown fields are refused, not removed; and a body has types of its own, so "5" is no number there.
const body = formats.default(new Ajv({ removeAdditional: false, useDefaults: true, coerceTypes: false }))
// A query, a path and a header have only strings; an array may be given as one value.
const text = formats.default(new Ajv({ removeAdditional: false, useDefaults: true, coerceTypes: 'array' }))

/** Checks requests against the routes' schemas. */
export default fp(
  async (app) => {
    app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema))
  },
  { name: 'validation' },
)
