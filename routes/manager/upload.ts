import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { formBody, requestBody } from '../../plugins/request/openapi-document.ts'
import { requestHeaders } from '../../plugins/request/openapi-headers.ts'
import { storeForm } from '../form/store-form.ts'
import { Path, problemResponses, Uuid } from '../schemas.ts'
import { StoredFileBody } from '../stored-file.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  // Only forms are parsed: JSON would be read first, and refused for its content instead of its type.
  app.removeAllContentTypeParsers()
  await app.register(multipart)

  app.post(
    '/folders/upload',
    {
      config: { readsBody: true, audit: 'file.store' },
      schema: {
        tags: ['files'],
        operationId: 'uploadForm',
        summary: 'Upload files in one multipart form',
        description:
          "Each file goes to `path`, then its part's `filename`, which may have directories. A file is there whole or " +
          'not at all; when one fails, those that are stored by then stay and are named in the problem as `files`.',
        consumes: ['multipart/form-data'],
        [requestBody]: formBody,
        [requestHeaders]: ['Expect'],
        querystring: Type.Object({ folder: Uuid, path: Type.Optional(Path) }),
        response: { 201: Type.Object({ files: Type.Array(StoredFileBody) }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { folder, path } = request.query
      const files = await app.vfolders.files(folder)
      const stored = await storeForm(files, request, reply, { directory: path, maxBytes: app.config.uploadMaxBytes })
      return reply.code(201).send({ files: stored })
    },
  )
}

export default routes
