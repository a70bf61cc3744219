import type { FastifyInstance } from 'fastify'
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
    await app.register(backendAi, { prefix: settings.prefix, settings })
  }
  app.answerOtherMethods()
}
