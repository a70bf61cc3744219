import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from '../definition.ts'
import { createVolume, layoutProperty, placesOfVolume, posixProperties } from '../posix/compose.ts'

/** As the kernel calls what it mounts itself, and what fuse-nfs does. */
const mountTypes = ['nfs', 'nfs4', 'fuse.fuse-nfs']

/** NFS: posix on a mount that is guarded, with what its clients do to files that are open. */
export const nfs = defineBackend({
  type: 'nfs',
  options: Type.Object({ ...posixProperties, ...layoutProperty }, { additionalProperties: false }),
  places: (options) => placesOfVolume({ mount: true, ...options }),
  create: (context) =>
    createVolume(context, { mountTypes, isNfs: true, byScope: context.options.layout === 'backend-ai' }),
})

export default fp(async (app) => app.backends.register(nfs), { name: 'backend-nfs', dependencies: ['backends'] })
