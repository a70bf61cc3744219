import type { FastifyInstance } from 'fastify'
import { checksumAlgorithms } from '../../../plugins/vfolders/uploads/checksum.ts'
import create from './create.ts'
import discover from './discover.ts'
import { requireVersion, tusExtensions, tusVersion } from './headers.ts'
import override from './override.ts'
import upload from './upload.ts'

/** Resumable uploads by tus 1.0.0. */
export default async function tus(app: FastifyInstance): Promise<void> {
  const { uploadMaxBytes } = app.config

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))

  app.addHook('onRequest', async ({ method, headers, routeOptions: { config } }) => {
    if (method !== 'OPTIONS' && !config.tellsMethods) requireVersion(headers)
  })

  // Also to the OPTIONS of a browser, which is answered before any route is asked.
  app.addHook('onSend', async ({ method }, reply) => {
    reply.header('tus-resumable', tusVersion)
    if (method !== 'OPTIONS' && reply.statusCode !== 412) return
    reply.header('tus-version', tusVersion)
    reply.header('tus-extension', tusExtensions)
    reply.header('tus-checksum-algorithm', checksumAlgorithms.join(','))
    if (uploadMaxBytes < Number.MAX_SAFE_INTEGER) reply.header('tus-max-size', uploadMaxBytes)
  })

  for (const routes of [discover, create, upload, override]) await app.register(routes)
}
