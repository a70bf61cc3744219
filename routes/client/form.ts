import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { rateOf } from '../../plugins/access/rates.ts'
import { formBody, requestBody } from '../../plugins/request/openapi-document.ts'
import { requestHeaders } from '../../plugins/request/openapi-headers.ts'
import { storeForm } from '../form/store-form.ts'
import { Path, problemResponses, Uuid } from '../schemas.ts'
import { StoredFileBody } from '../stored-file.ts'
import { guardUploads, permissionOf, TokenQuery } from './scopes.ts'
import { uploadLimitOf } from './upload-limit.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  guardUploads(app)

  // Only forms are parsed: JSON would be read first, and refused for its content instead of its type.
  app.removeAllContentTypeParsers()
  await app.register(multipart)

  app.post(
    '/:folder/*',
    {
      config: { readsBody: true, audit: 'file.store' },
      schema: {
        tags: ['client'],
        operationId: 'postForm',
        summary: 'Upload files in a browser form by a signed URL',
        description:
          'The path is the directory that the files go into, each under the `filename` of its part; or, when it was signed with ' +
          '`onlyFile`, the file itself.',
        consumes: ['multipart/form-data'],
        [requestBody]: formBody,
        [requestHeaders]: ['Expect'],
        params: Type.Object({ folder: Uuid, '*': Path }),
        querystring: TokenQuery,
        response: { 201: Type.Object({ files: Type.Array(StoredFileBody) }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { folder, '*': directory } = request.params
      const permission = permissionOf(request)
      reply.beginTransfer()
      const files = await app.vfolders.files(folder)
      const place = permission.onlyFile ? { directory: undefined, path: directory } : { directory }
      const options = { ...place, maxBytes: uploadLimitOf(app.config, permission), rate: rateOf(permission) }
      return reply.code(201).send({ files: await storeForm(files, request, reply, options) })
    },
  )
}

export default routes
