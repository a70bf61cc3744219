import type { FastifyInstance, FastifyRequest } from 'fastify'
import manifest from '../../package.json' with { type: 'json' }
import { checkAll } from '../checks.ts'

/** Who answers, and how the service is. Anybody may ask. */
export default async function status(app: FastifyInstance): Promise<void> {
  const { managerListener, backendAi } = app.config
  const isForClientsAlone = (backendAi?.managerListener ?? managerListener) !== undefined
  const isForClients = (request: FastifyRequest) => {
    const face = app.faceOf(request)
    return face === 'backendAiClient' || (face === 'public' && isForClientsAlone)
  }
  for (const url of ['/', '/status']) {
    app.get(url, async (request) => ({
      status: 'ok',
      type: isForClients(request) ? 'client-facing' : 'manager-facing',
      'storage-proxy': manifest.version,
    }))
  }

  for (const url of ['/health', '/livez', '/readyz']) {
    app.get(url, { onRequest: app.requireBackendAiManagerListener }, async (_request, reply) => {
      const health = await describeHealth(app)
      if (url === '/readyz' && health.status !== 'ok') return reply.code(503).send({ ...health, status: 'error' })
      return health
    })
  }
}

/** In Backend.AI's words. */
async function describeHealth(app: FastifyInstance) {
  const now = new Date().toISOString()
  const checks = (await checkAll(app)).map((check) => {
    const [group = '', id = group] = check.name.split(':')
    return {
      service_group: group,
      component_id: id,
      is_healthy: check.healthy,
      last_checked_at: now,
      error_message: check.healthy ? (check.warning ?? null) : check.reason,
    }
  })
  const isHealthy = checks.every((check) => check.is_healthy)
  return {
    status: isHealthy ? 'ok' : 'degraded',
    version: manifest.version,
    component: 'storage-proxy',
    connectivity: { overall_healthy: isHealthy, connectivity_checks: checks, timestamp: now },
  }
}
