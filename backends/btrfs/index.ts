import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from '../definition.ts'
import { createVolume, placesOfVolume, posixProperties } from '../posix/compose.ts'
import { snapshot } from './clone.ts'
import { limit, requireQuotaGroups, usage } from './quota.ts'
import { subvolumes } from './subvolumes.ts'

/** Btrfs: a vfolder is a subvolume, which has a quota group and is cloned by a snapshot. */
export const btrfs = defineBackend({
  type: 'btrfs',
  options: Type.Object(posixProperties, { additionalProperties: false }),
  places: placesOfVolume,
  create: (context) =>
    createVolume(context, {
      ownPlaces: true,
      parts: async (layout) => ({
        homes: subvolumes,
        quota: (folder, limits, call) => limit(layout, folder, limits, call),
        usage: (folder, call) => usage(layout, folder, call),
        clone: (from, to, options) => snapshot(layout, from, to, options),
      }),
      tryStorage: (layout) => requireQuotaGroups(layout, context),
    }),
})

export default fp(async (app) => app.backends.register(btrfs), { name: 'backend-btrfs', dependencies: ['backends'] })
