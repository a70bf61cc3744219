import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { responseHeaders } from '../../../plugins/request/openapi-headers.ts'
import { problemResponses, Uuid } from '../../schemas.ts'
import { discoveryHeaders } from './document.ts'

/** For the OpenAPI document: the answer itself comes from `cors`, and its headers from the whole scope. */
export default async function routes(app: FastifyInstance): Promise<void> {
  const schema = {
    tags: ['client'],
    summary: 'What of tus is supported',
    security: [],
    [responseHeaders]: discoveryHeaders,
    response: { 204: Type.Null(), ...problemResponses },
  }
  const params = Type.Object({ upload: Uuid })
  app.options('/tus', { schema: { ...schema, operationId: 'discoverTus' } }, async (_request, reply) =>
    reply.code(204).send(),
  )
  app.options(
    '/tus/:upload',
    { schema: { ...schema, operationId: 'discoverTusOfUpload', params } },
    async (_request, reply) => reply.code(204).send(),
  )
}
