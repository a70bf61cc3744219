import Fastify, { type FastifyInstance } from 'fastify'
import posix from './backends/posix/index.ts'
import s3 from './backends/s3/index.ts'
import cleanupExpiredUploads from './jobs/cleanup-expired-uploads.ts'
import cloneVfolder from './jobs/clone-vfolder.ts'
import deleteVfolder from './jobs/delete-vfolder.ts'
import syncQuotas from './jobs/sync-quotas.ts'
import managerAuth from './plugins/access/manager-auth.ts'
import signedUrls from './plugins/access/signed-urls.ts'
import configPlugin, { type Config } from './plugins/config.ts'
import clientErrors, { handleClientError } from './plugins/request/client-errors.ts'
import disconnect from './plugins/request/disconnect.ts'
import errors, { handleFrameworkError } from './plugins/request/errors.ts'
import listeners from './plugins/request/listeners.ts'
import type { Loggers } from './plugins/request/logging.ts'
import openapi from './plugins/request/openapi.ts'
import requestBody from './plugins/request/request-body.ts'
import requestId, { requestIdOf } from './plugins/request/request-id.ts'
import validation from './plugins/request/validation.ts'
import backendPlugins from './plugins/storage/backend-plugins.ts'
import backends from './plugins/storage/backends.ts'
import database from './plugins/storage/database/index.ts'
import volumes from './plugins/storage/volumes.ts'
import archives from './plugins/transfer/archives/index.ts'
import downloads from './plugins/transfer/downloads/index.ts'
import pacing from './plugins/transfer/pacing.ts'
import transfers from './plugins/transfer/transfers.ts'
import quotas from './plugins/vfolders/quotas/index.ts'
import uploads from './plugins/vfolders/uploads/index.ts'
import vfolders from './plugins/vfolders/vfolders.ts'
import jobQueue from './plugins/work/job-queue/index.ts'
import processes from './plugins/work/processes.ts'
import scheduler from './plugins/work/scheduler.ts'
import client from './routes/client/index.ts'
import health from './routes/health.ts'
import manager from './routes/manager/index.ts'

/** The whole service, in order: what stands further down may use what stands above it. */
export async function buildApp(config: Config, loggers: Loggers): Promise<FastifyInstance> {
  const app = Fastify({
    ...loggers,
    genReqId: requestIdOf,
    frameworkErrors: handleFrameworkError,
    clientErrorHandler: handleClientError,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 16 * 1024 },
    ...timeouts(config),
  })

  // The request: its ID, its errors, its rules
  await app.register(configPlugin, { config })
  await app.register(requestId)
  await app.register(disconnect)
  await app.register(errors)
  await app.register(clientErrors)
  await app.register(requestBody)
  await app.register(validation)
  await app.register(listeners)
  await app.register(openapi)

  // The storage: what there is and where it is
  await app.register(database)
  await app.register(backends)
  await app.register(posix)
  await app.register(s3)
  await app.register(backendPlugins)
  await app.register(volumes)

  // Background work: who does it, when, and how it is not lost
  await app.register(processes)
  await app.register(scheduler)
  await app.register(jobQueue)

  // vfolders, and the work on them that takes its time
  await app.register(quotas)
  await app.register(vfolders)
  await app.register(uploads)
  await app.register(cleanupExpiredUploads)
  await app.register(cloneVfolder)
  await app.register(deleteVfolder)
  await app.register(syncQuotas)

  // HTTP
  await app.register(managerAuth)
  await app.register(signedUrls)
  await app.register(transfers)
  await app.register(pacing)
  await app.register(downloads)
  await app.register(archives)
  await app.register(health)
  await app.register(manager)
  await app.register(client)

  return app
}

/** A transfer may take hours as long as bytes move; what stands still, or never gets to the point, is cut. */
function timeouts({ idleTimeoutSeconds, headersTimeoutSeconds }: Config) {
  return {
    connectionTimeout: idleTimeoutSeconds * 1000,
    keepAliveTimeout: Math.min(idleTimeoutSeconds, 65) * 1000,
    requestTimeout: 0,
    http: { requireHostHeader: false, headersTimeout: headersTimeoutSeconds * 1000, connectionsCheckingInterval: 1000 },
  }
}
