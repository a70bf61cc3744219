import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Bytes, problemResponses, ref } from '../schemas.ts'
import { Limited, QuotaChange, QuotaScope } from './folder-schemas.ts'

const Params = Type.Object({ scope: QuotaScope })

const ScopeBody = Type.Object(
  {
    scope: QuotaScope,
    quota: Type.Object({ bytes: Limited, files: Limited }),
    usage: Type.Object({ bytes: Bytes, files: Type.Integer({ minimum: 0 }) }, { description: 'of all its vfolders' }),
  },
  {
    $id: 'QuotaScope',
    title: 'QuotaScope',
    examples: [{ scope: 'user:ada', quota: { bytes: 1_000_000_000, files: null }, usage: { bytes: 5, files: 1 } }],
  },
)

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.addSchema(ScopeBody)

  app.put(
    '/quota-scopes/:scope',
    {
      config: { audit: 'quota-scope.set' },
      schema: {
        tags: ['quota scopes'],
        operationId: 'putQuotaScope',
        summary: 'Set the limits over all vfolders of one owner',
        description: 'A limit that is absent or null is none. It may be below the usage: then nothing more is taken.',
        params: Params,
        body: QuotaChange,
        response: { 200: ref(ScopeBody), ...problemResponses },
      },
    },
    async ({ params, body }) =>
      app.quotas.scopes.put(params.scope, { bytes: body.bytes ?? null, files: body.files ?? null }),
  )

  app.get(
    '/quota-scopes/:scope',
    {
      schema: {
        tags: ['quota scopes'],
        operationId: 'getQuotaScope',
        summary: 'The limits of one owner, and the usage of all its vfolders',
        params: Params,
        response: { 200: ref(ScopeBody), ...problemResponses },
      },
    },
    async ({ params }) => app.quotas.scopes.get(params.scope),
  )

  app.delete(
    '/quota-scopes/:scope',
    {
      config: { audit: 'quota-scope.delete' },
      schema: {
        tags: ['quota scopes'],
        operationId: 'deleteQuotaScope',
        summary: 'Take the limits of one owner away; its vfolders stay',
        params: Params,
        response: { 204: Type.Null(), ...problemResponses },
      },
    },
    async ({ params }, reply) => {
      await app.quotas.scopes.delete(params.scope)
      return reply.code(204).send(null)
    },
  )
}

export default routes
