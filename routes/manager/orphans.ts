import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { responseHeaders } from '../../plugins/request/openapi-headers.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { fromCursor, toCursor } from '../cursor.ts'
import { Limit, problemResponses, ref, Uuid } from '../schemas.ts'
import { Folder, QuotaScope } from './folder-schemas.ts'

const QuotaScopeQuery = Type.Object({
  quotaScope: Type.Optional({
    ...QuotaScope,
    description: 'on a volume that keeps vfolders by them: the one it is in',
  }),
})

const OrphanParams = Type.Object({ volume: Type.String(), id: Uuid })

const Scope = Type.String({
  description: 'by which the volume keeps it: the UUID of its quota scope',
  examples: ['0198c7a251d37c4e9a276f1d0f3b8e11'],
})

const mostScopes = 10_000

/** Vfolders that are on a volume and that the database does not know. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/volumes/:volume/orphans',
    {
      schema: {
        tags: ['volumes'],
        operationId: 'listOrphans',
        summary: 'List the vfolders of a volume that the database does not know',
        description: 'As after a restore of the database. A page may have fewer than `limit`, or none, and a next one.',
        params: Type.Object({ volume: Type.String() }),
        querystring: Type.Object({ limit: Limit(1000, 100), cursor: Type.Optional(Type.String()) }),
        response: {
          200: Type.Object({
            orphans: Type.Array(Type.Object({ id: Uuid, scope: Type.Optional(Scope) })),
            nextCursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problemResponses,
        },
      },
    },
    async ({ params, query: { limit, cursor }, abortSignal: signal }) => {
      const after = cursor === undefined ? {} : { after: fromCursor(cursor) }
      const { orphans, next } = await app.orphans.list(app.volumes.get(params.volume), { limit, signal, ...after })
      return { orphans, nextCursor: next === undefined ? null : toCursor(next) }
    },
  )

  app.post(
    '/volumes/:volume/orphans/adopt',
    {
      config: { audit: 'folder.adopt' },
      schema: {
        tags: ['volumes'],
        operationId: 'adoptOrphans',
        summary: 'Make vfolders of all of them again, without limits',
        description:
          'A job registers each and then counts it, and changes nothing on the storage. The same call while it runs gets ' +
          'the same job. Where the volume keeps vfolders by their quota scopes, those of scopes that are not named are ' +
          'left, and the `scopes` of its result has such names.',
        params: Type.Object({ volume: Type.String() }),
        body: Type.Object(
          {
            quotaScopes: Type.Optional(
              Type.Array(QuotaScope, { maxItems: mostScopes, description: 'whose vfolders are adopted' }),
            ),
            otherScopes: Type.Optional(
              Type.Union([Type.Literal('user'), Type.Literal('project')], { description: 'what all others are' }),
            ),
          },
          { additionalProperties: false },
        ),
        [responseHeaders]: { 202: ['Location'] },
        response: { 202: Type.Object({ job: ref(Job) }), ...problemResponses },
      },
    },
    async ({ params, body, abortSignal: signal }, reply) => {
      const job = await app.adoptions.start(app.volumes.get(params.volume), body, signal)
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
    },
  )

  app.post(
    '/volumes/:volume/orphans/:id/adopt',
    {
      config: { audit: 'folder.adopt' },
      schema: {
        tags: ['volumes'],
        operationId: 'adoptOrphan',
        summary: 'Make a vfolder of it again, without limits',
        params: OrphanParams,
        querystring: QuotaScopeQuery,
        [responseHeaders]: { 201: ['Location'] },
        response: { 201: Type.Object({ folder: ref(Folder), job: ref(Job) }), ...problemResponses },
      },
    },
    async ({ params: { volume, id }, query: { quotaScope = null }, abortSignal: signal }, reply) => {
      const orphan = { volume: app.volumes.get(volume), id, quotaScope, signal }
      const { vfolder: folder, job } = await app.orphans.adopt(orphan)
      return reply.code(201).header('location', `/folders/${id}`).send({ folder, job })
    },
  )

  app.delete(
    '/volumes/:volume/orphans/:id',
    {
      config: { audit: 'folder.remove-orphan' },
      schema: {
        tags: ['volumes'],
        operationId: 'removeOrphan',
        summary: 'Remove it from the volume',
        params: OrphanParams,
        querystring: QuotaScopeQuery,
        response: { 202: Type.Object({ job: ref(Job) }), ...problemResponses },
      },
    },
    async ({ params: { volume, id }, query: { quotaScope = null }, abortSignal: signal }, reply) => {
      const job = await app.orphans.remove({ volume: app.volumes.get(volume), id, quotaScope, signal })
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
    },
  )
}

export default routes
