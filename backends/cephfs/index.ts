import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from '../definition.ts'
import { createVolume, placesOfVolume, posixProperties } from '../posix/compose.ts'
import { limit, requireCephfs, usage, usageDelaySeconds } from './quota.ts'

/** By the kernel and by ceph-fuse. */
const mountTypes = ['ceph', 'fuse.ceph-fuse', 'fuse.ceph']

/** CephFS: a directory has a quota and knows what is in it. */
export const cephfs = defineBackend({
  type: 'cephfs',
  options: Type.Object(posixProperties, { additionalProperties: false }),
  places: (options) => placesOfVolume({ mount: true, ...options }),
  create: (context) =>
    createVolume(context, {
      ownPlaces: true,
      mountTypes,
      parts: async (layout) => ({
        quota: (folder, limits, call) => limit(layout, folder, limits, call),
        usage: (folder, call) => usage(layout, folder, call),
        usageDelaySeconds,
      }),
      tryStorage: (layout) => requireCephfs(layout, context),
    }),
})

export default fp(async (app) => app.backends.register(cephfs), { name: 'backend-cephfs', dependencies: ['backends'] })
