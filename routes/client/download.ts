import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { filenameOf } from '../../plugins/downloads/index.ts'
import { rateOf } from '../../plugins/pacing.ts'
import { Problem } from '../../plugins/problems.ts'
import { setOriginRequestId } from '../../plugins/request-id.ts'
import { ArchiveFormat, PathOrRoot, problemResponses, Uuid } from '../schemas.ts'

const compressions = Type.Union([Type.Literal('store'), Type.Literal('deflate')], {
  description: 'of the files in a zip; `store` when absent',
})

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/:folder/*',
    schema: {
      tags: ['client'],
      summary: 'Download a file, or an archive of entries, by a signed URL',
      description:
        'A file is resumable: with ETag, Last-Modified, ranges and preconditions (RFC 9110). An archive is made while ' +
        'it is sent; symlinks are kept as such and never followed.',
      security: [{ signedUrl: [] }],
      params: Type.Object({ folder: Uuid, '*': PathOrRoot }),
      querystring: Type.Object({
        token: Type.Optional(Type.String()),
        archive: Type.Optional(ArchiveFormat),
        compression: Type.Optional(compressions),
      }),
      response: {
        '2xx': Type.Unknown({ description: 'the bytes of the file, of its range, or of the archive' }),
        ...problemResponses,
      },
    },
    handler: async (request, reply) => {
      const { folder, '*': path } = request.params
      const { token, archive: format, compression } = request.query
      const operation = format === undefined ? 'download' : 'archive'
      const permission = app.signedUrls.verify(token, { operation, folder, path })
      setOriginRequestId(request, permission.requestId)
      reply.beginTransfer()
      const { names, filename, disposition = 'attachment' } = permission
      const rate = rateOf(permission)
      if (format === undefined) {
        const files = await app.vfolders.files(folder)
        const file = await files.read(path, request.abortSignal)
        const { handOver } = files.volume
        return reply.sendFile(file, { filename: filename ?? filenameOf(path), disposition, rate, handOver })
      }
      const deflate = compression === 'deflate'
      if (deflate && format !== 'zip') {
        const members = { field: 'compression', rule: 'must be absent when archive is not zip', in: 'querystring' }
        throw new Problem('validation_failed', `querystring compression ${members.rule}`, { members })
      }
      return reply.sendArchive(await app.vfolders.files(folder), { path, names }, { format, deflate, filename, rate })
    },
  })
}

export default routes
