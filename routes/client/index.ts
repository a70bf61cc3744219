import type { FastifyInstance } from 'fastify'
import cors from '../../plugins/cors.ts'
import direct from './direct.ts'
import download from './download.ts'
import form from './form.ts'
import put from './put.ts'
import tus from './tus/index.ts'

/** What a signed URL leads to. No token but the URL's own; pages of other origins may use it. */
export default async function client(app: FastifyInstance): Promise<void> {
  app.addHook('onRequest', app.requirePublicListener)
  await app.register(cors)
  for (const routes of [download, put, form, direct, tus]) await app.register(routes)
}
