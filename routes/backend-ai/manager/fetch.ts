import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { NotFound } from '../../../backends/errors.ts'
import { filenameOf } from '../../../plugins/transfer/downloads/index.ts'
import { fileNotFound } from '../refusal.ts'
import { parseEntryPath } from '../relpath.ts'
import { ofVfolder } from '../schemas.ts'
import { openVfolder } from '../target.ts'

/** The bytes of a file for the manager itself. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folder/file/fetch',
    { schema: { body: ofVfolder({ relpath: Type.String() }) } },
    async ({ body: { volume, vfid, relpath }, abortSignal }, reply) => {
      const path = parseEntryPath(relpath)
      const files = await openVfolder(app, volume, vfid)
      const sent = { kind: 'content', volume: files.volume.name } as const
      const presentation = {
        disposition: 'attachment',
        filename: filenameOf(path),
        contentType: 'application/octet-stream',
      } as const
      const file = await files.read(path, abortSignal).catch((error: unknown) => {
        throw error instanceof NotFound ? fileNotFound(path) : error
      })
      return reply.sendFile(file, { sent, ...presentation })
    },
  )
}

export default routes
