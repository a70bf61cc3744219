import type { FastifyInstance, FastifyRequest } from 'fastify'
import manifest from '../../package.json' with { type: 'json' }

/** Who answers. Anybody may ask, at each address. */
export default async function status(app: FastifyInstance): Promise<void> {
  const isForClients = (request: FastifyRequest) => {
    const face = app.faceOf(request)
    return face === 'backendAiClient' || (face === 'public' && app.config.managerListener !== undefined)
  }
  for (const url of ['/', '/status']) {
    app.get(url, async (request) => ({
      status: 'ok',
      type: isForClients(request) ? 'client-facing' : 'manager-facing',
      'storage-proxy': manifest.version,
    }))
  }
}
