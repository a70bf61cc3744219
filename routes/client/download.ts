import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { filenameOf } from '../../plugins/downloads/index.ts'
import { setOriginRequestId } from '../../plugins/request-id.ts'
import { Path, problemResponses, Uuid } from '../schemas.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/download/:folder/*',
    schema: {
      tags: ['client'],
      summary: 'Download a file by a signed URL',
      description: 'Resumable: with ETag, Last-Modified, ranges and preconditions (RFC 9110).',
      security: [{ signedUrl: [] }],
      params: Type.Object({ folder: Uuid, '*': Path }),
      querystring: Type.Object({ token: Type.Optional(Type.String()) }),
      response: { '2xx': Type.Unknown({ description: 'the bytes, or those of the range' }), ...problemResponses },
    },
    handler: async (request, reply) => {
      const { folder, '*': path } = request.params
      const permission = app.signedUrls.verify(request.query.token, { operation: 'download', folder, path })
      setOriginRequestId(request, permission.requestId)
      const file = await (await app.vfolders.files(folder)).read(path, request.abortSignal)
      const { filename = filenameOf(path), disposition = 'attachment' } = permission
      return reply.sendFile(file, { filename, disposition })
    },
  })
}

export default routes
