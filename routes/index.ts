import type { FastifyInstance } from 'fastify'
import { ConfigError } from '../plugins/config.ts'
import { auditEnds } from './audit.ts'
import client from './client/index.ts'
import health from './health.ts'
import manager from './manager/index.ts'
import metrics from './metrics.ts'
import pages from './pages/index.ts'

/** The API over HTTP. */
export default async function routes(app: FastifyInstance): Promise<void> {
  auditEnds(app)
  await app.register(health)
  await app.register(metrics)
  await app.register(manager)
  await app.register(pages)
  await app.register(client)
  const { backendAi: settings } = app.config
  if (settings !== undefined) {
    const { default: backendAi } = await import('./backend-ai/index.ts')
    try {
      await app.register(backendAi, { prefix: settings.prefix, settings })
    } catch (cause) {
      if (!isDuplicate(cause)) throw cause
      throw new ConfigError(`BACKEND_AI_PREFIX must be none of our own paths, as ${settings.prefix} is`, { cause })
    }
  }
  app.answerOtherMethods()
}

function isDuplicate(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'FST_ERR_DUPLICATED_ROUTE'
}
