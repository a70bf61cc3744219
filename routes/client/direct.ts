import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Bytes, problemResponses, Uuid } from '../schemas.ts'
import { guardBegunUploads, TokenQuery, uploadOf } from './scopes.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  guardBegunUploads(app)

  const url = '/direct/:upload'
  const schema = { tags: ['client'], params: Type.Object({ upload: Uuid }), querystring: TokenQuery }

  app.post(
    url,
    {
      config: { audit: 'file.store' },
      schema: {
        ...schema,
        operationId: 'completeDirectUpload',
        summary: 'Make a file of what was sent to the storage',
        description: 'When all parts are there. The same call twice makes one file.',
        response: {
          201: Type.Object({ path: Type.String({ examples: ['data/train.csv'] }), size: Bytes }),
          ...problemResponses,
        },
      },
    },
    async (request, reply) => {
      const { path, offset: size } = await app.uploads.completeDirect(uploadOf(request))
      return reply.code(201).send({ path, size })
    },
  )

  app.delete(
    url,
    {
      config: { audit: 'upload.end' },
      schema: {
        ...schema,
        operationId: 'giveUpDirectUpload',
        summary: 'Give up an upload to the storage',
        response: { 204: Type.Null(), ...problemResponses },
      },
    },
    async (request, reply) => {
      await app.uploads.remove(uploadOf(request))
      return reply.code(204).send(null)
    },
  )
}

export default routes
