import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from 'storage-proxy/backend'
import { createOpendalBackend } from './backend.ts'
import { services } from './services.ts'
import { Store } from './store.ts'

export const opendal = defineBackend({
  type: 'opendal',
  options: Type.Object(
    {
      service: Type.String({ enum: Object.keys(services) }),
      options: Type.Record(Type.String(), Type.String(), { description: "the service's, as OpenDAL documents them" }),
      chunkBytes: Type.Integer({
        minimum: 5 * 1024 * 1024,
        default: 8 * 1024 * 1024,
        description: 'the parts of large files; at most 10,000 make a file',
      }),
    },
    { additionalProperties: false },
  ),
  async create({ options: { service, options, chunkBytes } }) {
    const store = new Store(service, options, chunkBytes)
    await store.operator.check()
    return createOpendalBackend(store)
  },
})

export default fp(async (app) => app.backends.register(opendal), {
  name: 'backend-opendal',
  dependencies: ['backends'],
})
