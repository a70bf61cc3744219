import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import backendPlugins from './backend-plugins.ts'
import backends from './backends.ts'
import database from './database/index.ts'
import volumes from './volumes.ts'

export interface StorageOptions {
  /** The kinds of storage that the service brings itself. */
  backends: FastifyPluginAsync[]
}

/** The state of the service, and where the bytes are. */
export default fp(
  async (app: FastifyInstance, { backends: builtIn }: StorageOptions) => {
    await app.register(database)
    await app.register(backends)
    for (const backend of builtIn) await app.register(backend)
    await app.register(backendPlugins)
    await app.register(volumes)
  },
  { name: 'storage', dependencies: ['config'] },
)
