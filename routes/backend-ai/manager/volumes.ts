import { resolve } from 'node:path'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Problem } from '../../../lib/problems.ts'
import type { Volume } from '../../../plugins/storage/volumes.ts'
import { OfVolume } from '../schemas.ts'

/** Volumes and what they can do, are and have. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  const describe = ({ name, type, backend }: Volume) => {
    const root = app.config.volumes[name]?.root
    return {
      name,
      backend: type,
      // Where hosts have it too; of a storage that has no such place, none.
      path: backend.mount !== undefined && typeof root === 'string' ? resolve(root) : '',
      fsprefix: '.',
      capabilities: capabilitiesOf(backend),
    }
  }

  app.get('/volumes', async () => ({ volumes: app.volumes.all().map(describe) }))

  app.get('/volume/hwinfo', { exposeHeadRoute: false, schema: { body: OfVolume } }, async ({ body }) => {
    const health = await app.volumes.health(app.volumes.get(body.volume))
    if (!health.healthy) return { status: 'unavailable', status_info: health.reason, metadata: {} }
    const { warning = null } = health
    return { status: warning === null ? 'healthy' : 'degraded', status_info: warning, metadata: {} }
  })

  app.get('/volume/performance-metric', { exposeHeadRoute: false, schema: { body: OfVolume } }, async ({ body }) => {
    const { name } = app.volumes.get(body.volume)
    throw new Problem('capability_missing', `Volume ${name} has no performance metric; see GET /metrics.`)
  })

  app.get(
    '/folder/fs-usage',
    { exposeHeadRoute: false, schema: { body: OfVolume } },
    async ({ body, abortSignal: signal }) => {
      const capacity = await app.volumes.get(body.volume).backend.capacity?.({ signal })
      if (capacity === undefined) return { capacity_bytes: 0, used_bytes: 0 }
      return { capacity_bytes: capacity.totalBytes, used_bytes: capacity.totalBytes - capacity.availableBytes }
    },
  )

  // Since quotas are those of scopes, these are refused there too.
  for (const method of ['GET', 'PATCH'] as const) {
    app.route({
      method,
      url: '/volume/quota',
      exposeHeadRoute: false,
      schema: { body: OfVolume },
      handler: async () => {
        throw new Problem('bad_request', 'A vfolder has no quota of its own: it is the scope that has one.')
      },
    })
  }
}

/** By Backend.AI's words. Usage is counted as it changes, and limits are kept, whatever the storage can do. */
function capabilitiesOf({ capacity }: Volume['backend']): string[] {
  return ['vfolder', 'quota', 'fast-size', 'fast-scan', ...(capacity === undefined ? [] : ['fast-fs-size'])]
}

export default routes
