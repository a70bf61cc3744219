import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from '../definition.ts'
import { createVolume, layoutProperty, placesOfVolume, posixProperties } from './compose.ts'

/** Any local or mounted filesystem with POSIX semantics on Linux. */
export const posix = defineBackend({
  type: 'posix',
  options: Type.Object({ ...posixProperties, ...layoutProperty }, { additionalProperties: false }),
  places: placesOfVolume,
  create: (context) => createVolume(context, { byScope: context.options.layout === 'backend-ai' }),
})

export default fp(async (app) => app.backends.register(posix), { name: 'backend-posix', dependencies: ['backends'] })
