import type { FastifyInstance } from 'fastify'
import { posix } from '../backends/posix/index.ts'

/** A posix backend by somebody else, which has no place for what was deleted. */
export default async (app: FastifyInstance) => {
  app.backends.register({
    ...posix,
    type: 'forgetful',
    async create(context) {
      const { trash: _, ...rest } = await posix.create(context)
      return rest
    },
  })
}
