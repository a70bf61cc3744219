import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import type { FastifyServerOptions } from 'fastify'

const select = SerializerSelector()

/**
 * Serializers by the schemas of the routes, but for problems: `errors.ts` writes these itself, and to compile the same
 * ones for each status of each route took a third of the start.
 */
export const schemaController: FastifyServerOptions['schemaController'] = {
  compilersFactory: {
    buildSerializer(externalSchemas, options) {
      const compile = select(externalSchemas, options)
      return (route) => (/^[45]/.test(route.httpStatus ?? '') ? JSON.stringify : compile(route))
    },
  },
}
