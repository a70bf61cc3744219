import type { ErrorObject } from 'ajv'
import type { FastifySchema } from 'fastify'

const integer = /^(?:0|-?[1-9]\d*)$/

/** A parameter that is not in the schema is refused, as a field of a body is; so a route without a schema takes none. */
export function withClosedQuery(schema: FastifySchema | undefined): FastifySchema {
  const querystring: object = Object(schema?.querystring ?? { type: 'object', properties: {} })
  return { ...schema, querystring: { ...querystring, additionalProperties: false } }
}

/**
 * Finds what Ajv would take for another value: an empty text, and an integer that is not written in decimal. All values
 * are texts; of a parameter that is given twice, a list.
 */
export function createQueryCheck(schema: object): (query: Record<string, unknown>) => ErrorObject | undefined {
  const properties = 'properties' in schema ? Object.entries<{ type?: string }>(Object(schema.properties)) : []
  const integers = new Set(properties.filter(([, { type }]) => type === 'integer').map(([name]) => name))
  return (query) => {
    for (const [name] of properties) {
      const value = query[name]
      if (typeof value !== 'string') continue
      // A token that is empty is none, and its guard says so.
      if (value === '' && name !== 'token') return broken(name, 'must not be empty')
      if (integers.has(name) && !integer.test(value)) return broken(name, 'must be integer')
    }
    return undefined
  }
}

function broken(name: string, message: string): ErrorObject {
  return { keyword: 'type', instancePath: `/${name}`, schemaPath: '', params: {}, message }
}
