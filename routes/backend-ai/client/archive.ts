import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { select } from '../../../plugins/transfer/archives/selection.ts'
import { parseRelpath } from '../relpath.ts'
import { openVfolder } from '../target.ts'
import type { Tokens } from '../token.ts'
import { ClientQuery, permit } from './permit.ts'

/** Several entries as a zip, whose names are their paths in the vfolder. */
const routes: FastifyPluginAsyncTypebox<{ tokens: Tokens }> = async (app, { tokens }) => {
  app.route({
    method: ['GET', 'HEAD'],
    url: '',
    schema: { querystring: ClientQuery },
    handler: async (request, reply) => {
      const {
        volume,
        virtual_folder_id: vfid,
        files: names,
        filename,
      } = permit(request, tokens, 'archive', request.query.token)
      const paths = names.map(parseRelpath)
      reply.beginTransfer()
      const files = await openVfolder(app, volume, vfid)
      const selection = { ...select(paths.includes('') ? [] : paths), base: '' }
      return reply.sendArchive(files, selection, { format: 'zip', deflate: false, filename: filename ?? 'archive.zip' })
    },
  })
}

export default routes
