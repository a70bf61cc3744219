import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { setOriginRequestId } from '../../plugins/request/request-id.ts'
import { Bytes, problemResponses, Uuid } from '../schemas.ts'

const Params = Type.Object({ upload: Uuid })
const Query = Type.Object({ token: Type.Optional(Type.String()) })

const routes: FastifyPluginAsyncTypebox = async (app) => {
  const url = '/direct/:upload'
  const schema = { tags: ['client'], security: [{ signedUrl: [] }], params: Params, querystring: Query }

  app.post(
    url,
    {
      schema: {
        ...schema,
        summary: 'Make a file of what was sent to the storage',
        description: 'When all parts are there. The same call twice makes one file.',
        response: { 201: Type.Object({ path: Type.String(), size: Bytes }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const named = { id: request.params.upload, token: request.query.token }
      setOriginRequestId(request, (await app.uploads.get(named)).origin_request_id)
      const { path, offset: size } = await app.uploads.completeDirect(named)
      return reply.code(201).send({ path, size })
    },
  )

  app.delete(
    url,
    {
      schema: {
        ...schema,
        summary: 'Give up an upload to the storage',
        response: { 204: Type.Null(), ...problemResponses },
      },
    },
    async (request, reply) => {
      const named = { id: request.params.upload, token: request.query.token }
      setOriginRequestId(request, (await app.uploads.get(named)).origin_request_id)
      await app.uploads.remove(named)
      return reply.code(204).send(null)
    },
  )
}

export default routes
