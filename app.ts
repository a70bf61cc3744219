import Fastify, { type FastifyInstance } from 'fastify'
import btrfs from './backends/btrfs/index.ts'
import cephfs from './backends/cephfs/index.ts'
import command from './backends/command/index.ts'
import nfs from './backends/nfs/index.ts'
import posix from './backends/posix/index.ts'
import s3 from './backends/s3/index.ts'
import xfs from './backends/xfs/index.ts'
import jobs from './jobs/index.ts'
import access from './plugins/access/index.ts'
import config, { type Config } from './plugins/config.ts'
import { handleClientError } from './plugins/request/client-errors.ts'
import { handleFrameworkError } from './plugins/request/errors.ts'
import request from './plugins/request/index.ts'
import type { Loggers } from './plugins/request/logging.ts'
import { requestIdAlsoBy, requestIdOf } from './plugins/request/request-id.ts'
import { schemaController } from './plugins/request/serialization.ts'
import sight from './plugins/sight/index.ts'
import storage from './plugins/storage/index.ts'
import transfer from './plugins/transfer/index.ts'
import vfolders from './plugins/vfolders/index.ts'
import work from './plugins/work/index.ts'
import routes from './routes/index.ts'

/** The whole service, chapter by chapter: a chapter may use those above it. */
export async function buildApp(settings: Config, loggers: Loggers): Promise<FastifyInstance> {
  const { backendAi } = settings
  const app = Fastify({
    ...loggers,
    genReqId: backendAi === undefined ? requestIdOf : requestIdAlsoBy(backendAi.requestId),
    frameworkErrors: handleFrameworkError,
    clientErrorHandler: handleClientError,
    schemaController,
    return503OnClosing: false,
    // What may take long in the start has a limit of its own, whose message says what it is.
    pluginTimeout: 0,
    routerOptions: { maxParamLength: 16 * 1024 },
    // Of X-Forwarded-For only what they have written themselves, from the right, counts.
    trustProxy: settings.trustedProxies.length > 0 && settings.trustedProxies,
    ...timeoutsOf(settings),
  })

  await app.register(config, { config: settings })
  await app.register(request)
  await app.register(storage, { backends: [posix, nfs, btrfs, cephfs, xfs, command, s3] })
  await app.register(access)
  await app.register(work)
  await app.register(vfolders)
  await app.register(jobs)
  await app.register(transfer)
  await app.register(sight)
  await app.register(routes)

  return app
}

/**
 * A transfer may take hours as long as bytes move; a connection that stands still, or never sends its headers, is cut.
 */
function timeoutsOf({ idleTimeoutSeconds, headersTimeoutSeconds }: Config) {
  return {
    connectionTimeout: idleTimeoutSeconds * 1000,
    keepAliveTimeout: Math.min(idleTimeoutSeconds, 65) * 1000,
    requestTimeout: 0,
    http: { requireHostHeader: false, headersTimeout: headersTimeoutSeconds * 1000, connectionsCheckingInterval: 1000 },
  }
}
