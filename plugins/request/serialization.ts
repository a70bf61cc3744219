import { SerializerSelector } from '@fastify/fast-json-stringify-compiler'
import type { FastifyServerOptions } from 'fastify'
import { late } from '../../lib/late.ts'

const select = SerializerSelector()

/**
 * Serializers by the schemas of the routes, each compiled at its first use. Problems have none: `errors.ts` writes them
 * itself. To compile all of them took half of the start.
 */
export const schemaController: FastifyServerOptions['schemaController'] = {
  compilersFactory: {
    buildSerializer(externalSchemas, options) {
      const compile = select(externalSchemas, options)
      return (route) => (/^[45]/.test(route.httpStatus ?? '') ? JSON.stringify : late(() => compile(route)))
    },
  },
}
