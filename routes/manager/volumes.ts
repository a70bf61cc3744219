import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { capabilities, capabilitiesOf } from '../../backends/capabilities.ts'
import type { Volume } from '../../plugins/storage/volumes.ts'
import { Bytes, problemResponses, ref } from '../schemas.ts'

const Identity = Type.Union([Type.String(), Type.Null()], { examples: ['0198c7a2-9f00-7d11-8a52-0c1d2e3f4a5b'] })

const VolumeBody = Type.Object(
  {
    name: Type.String(),
    backend: Type.String({ description: 'its type' }),
    capabilities: Type.Array(Type.Union(capabilities.map((name) => Type.Literal(name)))),
    capacity: Type.Optional(Type.Object({ totalBytes: Bytes, availableBytes: Bytes })),
    health: Type.Object({
      healthy: Type.Boolean(),
      reason: Type.Optional(Type.String({ description: 'why it is not healthy' })),
      warning: Type.Optional(Type.String({ description: 'what it lacks though it is healthy' })),
    }),
  },
  {
    $id: 'Volume',
    title: 'Volume',
    examples: [
      {
        name: 'default',
        backend: 'posix',
        capabilities: ['clone', 'count', 'capacity', 'mount'],
        capacity: { totalBytes: 1_000_000_000_000, availableBytes: 600_000_000_000 },
        health: { healthy: true },
      },
    ],
  },
)

const VolumeParams = Type.Object({ volume: Type.String() })

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
        operationId: 'listVolumes',
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
        operationId: 'getVolume',
        summary: 'Describe one volume',
        params: VolumeParams,
        response: { 200: ref(VolumeBody), ...problemResponses },
      },
    },
    async (request) => describe(app.volumes.get(request.params.volume), request.abortSignal),
  )

  app.get(
    '/volumes/:volume/identity',
    {
      schema: {
        tags: ['volumes'],
        operationId: 'getVolumeIdentity',
        summary: 'Compare the storage in the place of a volume with what the database knows',
        params: VolumeParams,
        response: {
          200: Type.Object({
            expected: { ...Identity, description: 'what the database knows' },
            found: { ...Identity, description: 'what the storage has' },
          }),
          ...problemResponses,
        },
      },
    },
    async ({ params, abortSignal: signal }) => app.volumes.get(params.volume).identity.describe({ signal }),
  )

  app.post(
    '/volumes/:volume/accept',
    {
      config: { audit: 'volume.accept' },
      schema: {
        tags: ['volumes'],
        operationId: 'acceptVolume',
        summary: 'Take the storage that is there for the volume from now on',
        description:
          'For a volume that is refused since it is not the one that the database knows. `found` is what `GET ' +
          '/volumes/{volume}/identity` told, so that nothing else is accepted.',
        params: VolumeParams,
        body: Type.Object({ found: Identity }, { additionalProperties: false }),
        response: { 200: ref(VolumeBody), ...problemResponses },
      },
    },
    async ({ params, body, abortSignal: signal, log }) => {
      const volume = app.volumes.get(params.volume)
      await volume.identity.accept(body.found, { signal })
      log.warn({ volume: volume.name, found: body.found }, 'volume accepted')
      return describe(volume, signal)
    },
  )
}

export default routes
