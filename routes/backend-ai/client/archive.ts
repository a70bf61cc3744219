import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Problem } from '../../../lib/problems.ts'
import { select } from '../../../plugins/transfer/archives/selection.ts'
import { isArchiveName } from '../archive-name.ts'
import { entriesIn, folderIn } from '../named.ts'
import { parseRelpath } from '../relpath.ts'
import { openVfolder } from '../target.ts'
import type { Tokens } from '../token.ts'
import { ClientQuery, guard } from './permit.ts'

/** Several entries as a zip, whose names are their paths in the vfolder. */
const routes: FastifyPluginAsyncTypebox<{ tokens: Tokens }> = async (app, { tokens }) => {
  const permissionOf = guard(app, tokens, 'archive', ({ virtual_folder_id: vfid, files }) => ({
    folder: folderIn(vfid),
    ...entriesIn(files),
  }))

  app.route({
    method: ['GET', 'HEAD'],
    url: '',
    config: { audit: 'archive.read' },
    schema: { querystring: ClientQuery },
    handler: async (request, reply) => {
      const { volume, virtual_folder_id: vfid, files: names, filename } = permissionOf(request)
      if (filename !== null && !isArchiveName(filename)) {
        throw new Problem('token_invalid', `The token names no file: ${JSON.stringify(filename)}.`)
      }
      const paths = names.map(parseRelpath)
      reply.beginTransfer()
      const files = await openVfolder(app, volume, vfid)
      const selection = { ...select(paths.includes('') ? [] : paths), base: '' }
      return reply.sendArchive(files, selection, { format: 'zip', deflate: false, filename: filename ?? 'archive.zip' })
    },
  })
}

export default routes
