import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { IsADirectory } from '../../backends/errors.ts'
import { parsePath } from '../../backends/path.ts'
import { Problem } from '../../lib/problems.ts'
import { rateOf } from '../../plugins/access/rates.ts'
import { archiveName } from '../../plugins/transfer/archives/index.ts'
import { filenameOf } from '../../plugins/transfer/downloads/index.ts'
import { presentationHeaders } from '../../plugins/transfer/downloads/presentation.ts'
import { storageCanAnswer } from '../../plugins/transfer/downloads/redirect.ts'
import { ArchiveFormat, fileContent, fileHeaders, notModified, PathOrRoot, problemResponses, Uuid } from '../schemas.ts'
import { guardDownloads, permissionOf, signedQuery } from './scopes.ts'

const compressions = Type.Union([Type.Literal('store'), Type.Literal('deflate')], {
  description: 'of the files in a zip; `store` when absent',
})

/** A client follows a redirect at once; to go on later it comes here again. */
const redirectSeconds = 60

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
        const files = await app.vfolders.files(folder)
        const file = parsePath(path)
        const presentation = { filename: filename ?? filenameOf(path), disposition }
        // A presigned URL is for one method, so a HEAD is answered here; and the storage would know of no rate.
        if (files.volume.redirect && rate === undefined && request.method === 'GET') {
          const { abortSignal: signal } = request
          const entry = await files.stat(file, signal)
          if (entry.type !== 'file') throw new IsADirectory(`${path} is a directory`)
          if (storageCanAnswer(request.headers, entry)) {
            const left = Math.max(1, permission.expiresAt - Math.floor(Date.now() / 1000))
            const expiresInSeconds = Math.min(left, redirectSeconds)
            const url = await files.presign(file, { ...presentationHeaders(presentation), expiresInSeconds, signal })
            return reply.header('cache-control', 'no-store').redirect(url, 307)
          }
        }
        const { name, handOver } = files.volume
        const sent = { kind: 'download', volume: name } as const
        return reply.sendFile(await files.read(file, request.abortSignal), { ...presentation, sent, rate, handOver })
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
