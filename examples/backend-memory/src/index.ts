import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { defineBackend } from 'storage-proxy/backend'
import { createMemoryBackend } from './backend.ts'

export const memory = defineBackend({
  type: 'memory',
  options: Type.Object(
    { maxFileBytes: Type.Integer({ minimum: 1, default: 64 * 1024 * 1024, description: 'the largest file' }) },
    { additionalProperties: false },
  ),
  create: async ({ options: { maxFileBytes } }) =>
    createMemoryBackend({ folders: new Map(), uploads: new Map() }, maxFileBytes),
})

export default fp(async (app) => app.backends.register(memory), {
  name: 'backend-memory',
  dependencies: ['backends'],
})
