import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { filenameOf } from '../../plugins/transfer/downloads/index.ts'
import { FolderParams, fileContent, fileHeaders, notModified, Path, problemResponses, Uuid } from '../schemas.ts'

/** How the manager reads a file by HTTP, and where a host reaches it by a mount. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/folders/:id/content/*',
    config: { audit: 'file.read' },
    schema: {
      tags: ['files'],
      operationId: 'readFile',
      summary: 'Read a file as the manager',
      description: 'With ranges and preconditions, as by a signed URL.',
      params: Type.Object({ id: Uuid, '*': Path }),
      ...fileHeaders,
      response: {
        '2xx': fileContent('the bytes, or those of the range'),
        304: notModified,
        ...problemResponses,
      },
    },
    handler: async ({ params, abortSignal }, reply) => {
      const path = params['*']
      const files = await app.vfolders.files(params.id)
      const sent = { kind: 'content', volume: files.volume.name } as const
      const file = await files.read(path, abortSignal)
      return reply.sendFile(file, { sent, disposition: 'attachment', filename: filenameOf(path) })
    },
  })

  app.get(
    '/folders/:id/mount',
    {
      schema: {
        tags: ['files'],
        operationId: 'getMount',
        summary: 'Where a host mounts or reaches the vfolder, or an entry of it',
        params: FolderParams,
        querystring: Type.Object({ path: Type.Optional(Path) }),
        response: {
          200: Type.Union([
            Type.Object({
              type: Type.Literal('path'),
              path: Type.String({ examples: ['/srv/files/folders/3f/a1/0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11'] }),
            }),
            Type.Object({ type: Type.Literal('s3'), bucket: Type.String(), prefix: Type.String() }),
          ]),
          ...problemResponses,
        },
      },
    },
    async ({ params, query }) => (await app.vfolders.files(params.id)).mount(query.path),
  )
}

export default routes
