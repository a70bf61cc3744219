import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { hasEnded, type Job } from '../../plugins/work/job-queue/job.ts'
import { problemResponses, Uuid } from '../schemas.ts'
import { createFollowers } from './followers.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  const followers = createFollowers(app, 'jobs')

  app.get(
    '/jobs/:id/events',
    {
      schema: {
        tags: ['jobs'],
        operationId: 'followJob',
        summary: 'Follow a job, as server-sent events',
        description:
          'Each event is a Job: `progress` when it has changed, and at the end one that is named as its state. With ' +
          '`Last-Event-ID` only what came after is told; 204 says that nothing more will come.',
        params: Type.Object({ id: Uuid }),
        headers: Type.Object({ 'last-event-id': Type.Optional(Type.String()) }),
        response: {
          200: { content: { 'text/event-stream': { schema: Type.Unknown({ description: 'server-sent events' }) } } },
          204: Type.Null({ description: 'the end was told already' }),
          ...problemResponses,
        },
      },
    },
    async ({ params, headers, method, abortSignal }, reply) => {
      const last = headers['last-event-id']
      const { job, version } = await app.jobs.watch(params.id)
      if (hasEnded(job) && last === String(version)) return reply.code(204).send(null)
      reply.headers(followers.headers)
      // Its events would be made until the job ends, though nobody reads them.
      if (method === 'HEAD') return reply.send()
      followers.add(reply)
      const signal = AbortSignal.any([abortSignal, followers.closing])
      return reply.send(Readable.from(watchJob(params.id, last, signal), { objectMode: false }))
    },
  )

  async function* watchJob(id: string, last: string | undefined, signal: AbortSignal): AsyncGenerator<string> {
    let told = last
    let toldAt = performance.now()
    const change = app.jobs.expectChange(id, signal)
    try {
      while (!signal.aborted) {
        const { job, version } = await app.jobs.watch(id)
        if (String(version) !== told) {
          yield toEvent(job, version)
          told = String(version)
          toldAt = performance.now()
        } else if (performance.now() - toldAt >= followers.commentMilliseconds) {
          yield ': the job goes on\n\n'
          toldAt = performance.now()
        }
        if (hasEnded(job)) return
        await change.next(Math.max(0, toldAt + followers.commentMilliseconds - performance.now()))
      }
    } finally {
      change.end()
    }
  }
}

export default routes

/** HTML, section "Server-sent events". */
function toEvent(job: Job, version: number): string {
  const name = hasEnded(job) ? job.state : 'progress'
  return `id: ${version}\nevent: ${name}\ndata: ${JSON.stringify(job)}\n\n`
}
