import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { parsePath } from '../../backends/path.ts'
import { Problem } from '../../lib/problems.ts'
import { rateOf } from '../../plugins/access/rates.ts'
import { archiveName } from '../../plugins/transfer/archives/index.ts'
import { filenameOf } from '../../plugins/transfer/downloads/index.ts'
import { offerFile } from '../../plugins/transfer/downloads/offer.ts'
import { ArchiveFormat, fileContent, fileHeaders, notModified, PathOrRoot, problemResponses, Uuid } from '../schemas.ts'
import { guardDownloads, permissionOf, signedQuery } from './scopes.ts'

const compressions = Type.Union([Type.Literal('store'), Type.Literal('deflate')], {
  description: 'of the files in a zip; `store` when absent',
})

const routes: FastifyPluginAsyncTypebox = async (app) => {
  guardDownloads(app)

  app.route({
    method: ['GET', 'HEAD'],
    url: '/:folder/*',
    config: { audit: 'file.read' },
    schema: {
      tags: ['client'],
      operationId: 'download',
      summary: 'Download a file, or an archive of entries, by a signed URL',
      description:
        'A file is resumable: with ETag, Last-Modified, ranges and preconditions (RFC 9110). An archive is made while ' +
        'it is sent; symlinks are kept as such and never followed. A volume with `redirect` answers a GET of a file with a ' +
        'redirect to the storage itself.',
      params: Type.Object({ folder: Uuid, '*': PathOrRoot }),
      querystring: signedQuery({
        archive: Type.Optional(ArchiveFormat),
        compression: Type.Optional(compressions),
      }),
      ...fileHeaders,
      response: {
        304: notModified,
        307: Type.Null({ description: 'where the storage itself gives the file, on a volume that redirects' }),
        '2xx': fileContent('the bytes of the file, of its range, or of the archive'),
        ...problemResponses,
      },
    },
    handler: async (request, reply) => {
      const { folder, '*': path } = request.params
      const { archive: format, compression } = request.query
      const permission = permissionOf(request)
      reply.beginTransfer()
      const { names, filename, disposition = 'attachment' } = permission
      const rate = rateOf(permission)
      if (format === undefined) {
        const { expiresAt } = permission
        const presentation = { filename: filename ?? filenameOf(path), disposition }
        const files = await app.vfolders.files(folder)
        return offerFile(reply, files, parsePath(path), { ...presentation, expiresAt, rate })
      }
      const deflate = compression === 'deflate'
      if (deflate && format !== 'zip') {
        const members = { field: 'compression', rule: 'must be absent when archive is not zip', in: 'querystring' }
        throw new Problem('validation_failed', `querystring compression ${members.rule}`, { members })
      }
      const selection = { path, names, base: permission.base }
      const name = archiveName(selection, format, filename)
      return reply.sendArchive(await app.vfolders.files(folder), selection, { format, deflate, filename: name, rate })
    },
  })
}

export default routes
