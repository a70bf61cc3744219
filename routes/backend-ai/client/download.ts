import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { IsADirectory } from '../../../backends/errors.ts'
import { filenameOf } from '../../../plugins/transfer/downloads/index.ts'
import { offerFile } from '../../../plugins/transfer/downloads/offer.ts'
import { folderIn, readable, tellAudit } from '../named.ts'
import { openVfolder } from '../target.ts'
import type { Tokens } from '../token.ts'
import { ClientQuery, flagOf, guard, placeOf } from './permit.ts'

/** One file, or with `archive` a directory as a zip whose names are relative to it. */
const routes: FastifyPluginAsyncTypebox<{ tokens: Tokens }> = async (app, { tokens }) => {
  const permissionOf = guard(app, tokens, 'download', ({ vfid, relpath }, { dst_dir: directory }) => ({
    folder: folderIn(vfid),
    path: readable(relpath, (path) => placeOf(path, directory)) || undefined,
  }))

  app.route({
    method: ['GET', 'HEAD'],
    url: '',
    config: { audit: 'file.read' },
    schema: { querystring: ClientQuery },
    handler: async (request, reply) => {
      const { volume, vfid, relpath, exp } = permissionOf(request)
      const path = placeOf(relpath, request.query.dst_dir)
      const wantsArchive = flagOf(request.query, 'archive')
      const cacheControl = flagOf(request.query, 'no_cache') ? 'no-store' : undefined
      reply.beginTransfer()
      const files = await openVfolder(app, volume, vfid)
      const isDirectory = async () => path === '' || (await files.stat(path, request.abortSignal)).type === 'directory'
      if (wantsArchive && (await isDirectory())) {
        tellAudit(request, { action: 'archive.read' })
        const filename = `${filenameOf(path) || 'vfolder'}.zip`
        return reply.sendArchive(files, { path, base: path }, { format: 'zip', deflate: false, filename })
      }
      if (path === '') throw new IsADirectory('the vfolder is a directory')
      const presentation = {
        disposition: 'attachment',
        filename: filenameOf(path),
        contentType: 'application/octet-stream',
      } as const
      return offerFile(reply, files, path, { ...presentation, expiresAt: exp, cacheControl })
    },
  })
}

export default routes
