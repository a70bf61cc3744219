import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'

const OfVolume = Type.Object({ volume: Type.String() })

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get('/volumes', async () => ({ volumes: [] }))

  app.get(
    '/folder/fs-usage',
    { exposeHeadRoute: false, schema: { body: OfVolume } },
    async ({ body, abortSignal: signal }) => {
      const capacity = await app.volumes.get(body.volume).backend.capacity?.({ signal })
      if (capacity === undefined) return { capacity_bytes: 0, used_bytes: 0 }
      return { capacity_bytes: capacity.totalBytes, used_bytes: capacity.totalBytes - capacity.availableBytes }
    },
  )
}

export default routes
