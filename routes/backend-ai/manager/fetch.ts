import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { requestHeaders } from '../../../plugins/request/openapi-headers.ts'
import { parseEntryPath } from '../relpath.ts'
import { ofVfolder } from '../schemas.ts'
import { preconditions, sendBytes } from '../send-bytes.ts'
import { openVfolder } from '../target.ts'

/** The bytes of a file for the manager itself. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folder/file/fetch',
    {
      config: { audit: 'file.read' },
      schema: { [requestHeaders]: preconditions, body: ofVfolder({ relpath: Type.String() }) },
    },
    async ({ body: { volume, vfid, relpath } }, reply) => {
      const path = parseEntryPath(relpath)
      const files = await openVfolder(app, volume, vfid)
      return sendBytes(reply, files, path)
    },
  )
}

export default routes
