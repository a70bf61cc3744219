import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { JobDetails } from '../../plugins/work/job-queue/attempts.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { JobsOfKind } from '../../plugins/work/job-queue/summary.ts'
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
    '/jobs/summary',
    {
      schema: {
        tags: ['jobs'],
        operationId: 'summarizeJobs',
        summary: 'Count the jobs of each kind by their state',
        description: 'Those that ended are counted for as long as they can be asked about.',
        response: { 200: Type.Object({ kinds: Type.Array(JobsOfKind) }), ...problemResponses },
      },
    },
    async () => ({ kinds: await app.jobs.summarize() }),
  )

  app.get(
    '/jobs/:id',
    {
      schema: {
        tags: ['jobs'],
        operationId: 'getJob',
        summary: 'Describe a job',
        params: Params,
        response: { 200: ref(JobDetails), ...problemResponses },
      },
    },
    async ({ params }) => app.jobs.describe(params.id),
  )

  app.post(
    '/jobs/:id/retry',
    {
      config: { audit: 'job.retry' },
      schema: {
        tags: ['jobs'],
        operationId: 'retryJob',
        summary: 'Queue a job once more that has failed or was cancelled',
        description:
          'It keeps its ID and its request ID, and goes on from where it was; a clone or a copy begins anew, once what it had ' +
          'made is removed. Any other job is 409: `job_not_ended`, `job_ended` or `job_not_retryable`.',
        params: Params,
        response: { 202: ref(Job), ...problemResponses },
      },
    },
    async ({ params }, reply) => {
      const job = await app.jobs.retry(params.id)
      return reply.code(202).header('location', `/jobs/${job.id}`).send(job)
    },
  )

  app.delete(
    '/jobs/:id',
    {
      config: { audit: 'job.cancel' },
      schema: {
        tags: ['jobs'],
        operationId: 'cancelJob',
        summary: 'Cancel a job',
        description:
          'A running one ends within a second. What it has half done, it undoes; what a deletion has deleted stays deleted.',
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
