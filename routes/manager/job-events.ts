import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { hasEnded, type Job } from '../../plugins/work/job-queue/job.ts'
import { problemResponses, Uuid } from '../schemas.ts'

const pollMilliseconds = 250

/** The longest pause between comments, which keep proxies from taking the connection for dead. */
const mostCommentMilliseconds = 15_000

const routes: FastifyPluginAsyncTypebox = async (app) => {
  // Half of our own idle timeout at most, so that it does not end the connection either.
  const commentMilliseconds = Math.min(mostCommentMilliseconds, app.config.idleTimeoutSeconds * 500)
  const closing = new AbortController()
  app.addHook('preClose', async () => closing.abort())

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
    async ({ params, headers, abortSignal }, reply) => {
      const last = headers['last-event-id']
      const { job, version } = await app.jobs.watch(params.id)
      if (hasEnded(job) && last === String(version)) return reply.code(204).send(null)
      const signal = AbortSignal.any([abortSignal, closing.signal])
      return reply
        .headers({ 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
        .send(Readable.from(watchJob(params.id, last, signal), { objectMode: false }))
    },
  )

  async function* watchJob(id: string, last: string | undefined, signal: AbortSignal): AsyncGenerator<string> {
    let told = last
    let toldAt = performance.now()
    while (!signal.aborted) {
      const { job, version } = await app.jobs.watch(id)
      if (String(version) !== told) {
        yield toEvent(job, version)
        told = String(version)
        toldAt = performance.now()
      } else if (performance.now() - toldAt > commentMilliseconds) {
        yield ': the job goes on\n\n'
        toldAt = performance.now()
      }
      if (hasEnded(job)) return
      await sleep(pollMilliseconds, undefined, { signal }).catch(() => {})
    }
  }
}

export default routes

/** HTML, section "Server-sent events". */
function toEvent(job: Job, version: number): string {
  const name = hasEnded(job) ? job.state : 'progress'
  return `id: ${version}\nevent: ${name}\ndata: ${JSON.stringify(job)}\n\n`
}
