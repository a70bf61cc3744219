import fp from 'fastify-plugin'
import { defineBackend } from '../definition.ts'
import { placesOf } from './layout.ts'
import { s3Options } from './options.ts'

/** Amazon S3 and what speaks its protocol: Ceph, MinIO, Garage and others. The bucket need not answer at the start. */
export const s3 = defineBackend({
  type: 's3',
  options: s3Options,
  places: async (options) => placesOf(options),
  // Each command has a limit of its own; and a write may wait for a part's memory, which slow clients hold.
  timeoutSeconds: 0,
  async create(context) {
    const { options } = context
    if ((options.accessKeyId === undefined) !== (options.secretAccessKey === undefined)) {
      throw new Error('accessKeyId and secretAccessKey must be given together')
    }
    for (const name of ['endpoint', 'publicEndpoint'] as const) {
      const url = options[name]
      if (url !== undefined && !isServer(url)) {
        throw new Error(`${name} must be the URL of a server, without user and query`)
      }
    }
    // Whoever has no such volume does not pay for the SDK.
    const { openBackend } = await import('./backend.ts')
    return openBackend(context)
  },
})

function isServer(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { username, password, search, hash } = new URL(url)
  return [username, password, search, hash].every((part) => part === '')
}

export default fp(async (app) => app.backends.register(s3), { name: 'backend-s3', dependencies: ['backends'] })
