import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from '../definition.ts'
import { createVolume, placesOf, posixProperties } from '../posix/compose.ts'
import { requirePrograms } from './ask.ts'
import { Commands, operations } from './options.ts'
import { commandParts } from './parts.ts'

/** A mounted filesystem whose own tools keep limits, know the usage or clone: each by a program that is configured. */
export const command = defineBackend({
  type: 'command',
  options: Type.Object({ ...posixProperties, commands: Commands }, { additionalProperties: false }),
  places: ({ root }) => placesOf(root),
  async create(context) {
    const { commands } = context.options
    await requirePrograms(commands, operations)
    return createVolume(context, { ownPlaces: true, parts: async (layout) => commandParts(layout, commands, context) })
  },
})

export default fp(async (app) => app.backends.register(command), {
  name: 'backend-command',
  dependencies: ['backends'],
})
