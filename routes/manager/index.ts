import type { FastifyInstance } from 'fastify'
import { Entry } from '../schemas.ts'
import content from './content.ts'
import files from './files.ts'
import folders from './folders.ts'
import listFiles from './list-files.ts'
import signedUrls from './signed-urls.ts'
import upload from './upload.ts'
import volumes from './volumes.ts'

/** The manager API: every route of this scope, and only of this one, needs a manager token. */
export default async function manager(app: FastifyInstance): Promise<void> {
  app.addSchema(Entry)
  app.addHook('onRequest', app.requireManagerListener)
  app.addHook('onRequest', app.requireManager)
  app.addHook('onRoute', (route) => {
    if (route.schema) route.schema.security = [{ manager: [] }]
  })

  for (const routes of [volumes, folders, files, listFiles, content, upload, signedUrls]) await app.register(routes)
}
