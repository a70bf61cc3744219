import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { fromCursor, toCursor } from '../cursor.ts'
import { Limit, problemResponses, ref, Uuid } from '../schemas.ts'

const Params = Type.Object({ id: Uuid })

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/jobs',
    {
      schema: {
        tags: ['jobs'],
        operationId: 'listJobs',
        summary: 'List jobs by page, the newest first',
        querystring: Type.Object({
          folder: Type.Optional(Uuid),
          kind: Type.Optional(Type.String({ pattern: '^[a-z0-9-]*$' })),
          state: Type.Optional(Type.Index(Job, ['state'])),
          limit: Limit(1000, 100),
          cursor: Type.Optional(Type.String()),
        }),
        response: {
          200: Type.Object({ jobs: Type.Array(ref(Job)), nextCursor: Type.Union([Type.String(), Type.Null()]) }),
          ...problemResponses,
        },
      },
    },
    async ({ query: { limit, cursor, ...filter } }) => {
      const before = cursor === undefined ? undefined : positionOf(fromCursor(cursor))
      const found = await app.jobs.list({ ...filter, limit: limit + 1, ...(before && { before }) })
      const jobs = found.slice(0, limit)
      const last = jobs.at(-1)
      const more = found.length > limit && last !== undefined
      return { jobs, nextCursor: more ? toCursor(`${last.createdAt} ${last.id}`) : null }
    },
  )

  app.get(
    '/jobs/:id',
    {
      schema: {
        tags: ['jobs'],
        operationId: 'getJob',
        summary: 'Describe a job',
        params: Params,
        response: { 200: ref(Job), ...problemResponses },
      },
    },
    async ({ params }) => app.jobs.get(params.id),
  )

  app.delete(
    '/jobs/:id',
    {
      schema: {
        tags: ['jobs'],
        operationId: 'cancelJob',
        summary: 'Cancel a job',
        description: 'A running one ends within a second. What it has half done, it undoes.',
        params: Params,
        response: { 202: ref(Job), ...problemResponses },
      },
    },
    async ({ params }, reply) => reply.code(202).send(await app.jobs.cancel(params.id)),
  )
}

export default routes

function positionOf(cursor: string): { createdAt: string; id: string } {
  const [createdAt = '', id = ''] = cursor.split(' ')
  return { createdAt, id }
}
