import type { FastifyInstance } from 'fastify'
import cors, { clientPrefixes } from '../../plugins/request/cors.ts'
import { handleNotFound } from '../../plugins/request/errors.ts'
import { auditRequests } from '../audit.ts'
import { limitAddresses } from '../limit-addresses.ts'
import direct from './direct.ts'
import download from './download.ts'
import form from './form.ts'
import put from './put.ts'
import { requireGuards } from './scopes.ts'
import tus from './tus/index.ts'

/** The paths of `cors` and `tus/discover.ts`, whose routes tell what is supported and nothing of what is stored. */
const open = ['OPTIONS /download/*', 'OPTIONS /upload/*', 'OPTIONS /upload/tus', 'OPTIONS /upload/tus/:upload']

/** What a signed URL leads to. No token but the URL's own; pages of other origins may use it. */
export default async function client(app: FastifyInstance): Promise<void> {
  const routesBelow = { '/download/': [download], '/upload/': [put, form, direct, tus] }
  app.addHook('onRequest', app.requirePublicListener)
  limitAddresses(app)
  requireGuards(app, open)
  auditRequests(app)
  for (const prefix of clientPrefixes) {
    await app.register(
      async (app) => {
        await app.register(cors)
        app.setNotFoundHandler(handleNotFound)
        for (const routes of routesBelow[prefix]) await app.register(routes)
      },
      { prefix },
    )
  }
}
