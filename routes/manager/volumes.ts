import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { capabilities, capabilitiesOf } from '../../backends/capabilities.ts'
import type { Volume } from '../../plugins/storage/volumes.ts'
import { Bytes, problemResponses, ref } from '../schemas.ts'

const VolumeBody = Type.Object(
  {
    name: Type.String(),
    backend: Type.String({ description: 'its type' }),
    capabilities: Type.Array(Type.Union(capabilities.map((name) => Type.Literal(name)))),
    capacity: Type.Optional(Type.Object({ totalBytes: Bytes, availableBytes: Bytes })),
    health: Type.Object({
      healthy: Type.Boolean(),
      reason: Type.Optional(Type.String({ description: 'why it is not healthy' })),
    }),
  },
  { $id: 'Volume', title: 'Volume' },
)

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.addSchema(VolumeBody)

  async function describe(volume: Volume, signal: AbortSignal) {
    const { name, type, backend } = volume
    const health = await app.volumes.health(volume)
    const capacity = health.healthy ? await backend.capacity?.({ signal }) : undefined
    return { name, backend: type, capabilities: capabilitiesOf(backend), ...(capacity && { capacity }), health }
  }

  app.get(
    '/volumes',
    {
      schema: {
        tags: ['volumes'],
        summary: 'List the volumes',
        response: { 200: Type.Object({ volumes: Type.Array(ref(VolumeBody)) }), ...problemResponses },
      },
    },
    async (request) => ({
      volumes: await Promise.all(app.volumes.all().map((volume) => describe(volume, request.abortSignal))),
    }),
  )

  app.get(
    '/volumes/:volume',
    {
      schema: {
        tags: ['volumes'],
        summary: 'Describe one volume',
        params: Type.Object({ volume: Type.String() }),
        response: { 200: ref(VolumeBody), ...problemResponses },
      },
    },
    async (request) => describe(app.volumes.get(request.params.volume), request.abortSignal),
  )
}

export default routes
