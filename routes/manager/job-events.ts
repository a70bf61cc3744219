import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import { Problem } from '../../lib/problems.ts'
import { hasEnded, type Job } from '../../plugins/work/job-queue/job.ts'
import { problemResponses, Uuid } from '../schemas.ts'

/** In this process: each asks the database at each change of its job. */
const mostFollowers = 256
const retryAfterSeconds = 5

/** The longest pause between comments, which keep proxies from taking the connection for dead. */
const mostCommentMilliseconds = 15_000

const routes: FastifyPluginAsyncTypebox = async (app) => {
  // Half of our own idle timeout at most, so that it does not end the connection either.
  const commentMilliseconds = Math.min(mostCommentMilliseconds, app.config.idleTimeoutSeconds * 500)
  const closing = new AbortController()
  let followers = 0
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
    async ({ params, headers, method, abortSignal }, reply) => {
      const last = headers['last-event-id']
      const { job, version } = await app.jobs.watch(params.id)
      if (hasEnded(job) && last === String(version)) return reply.code(204).send(null)
      reply.headers({ 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
      // Its events would be made until the job ends, though nobody reads them.
      if (method === 'HEAD') return reply.send()
      beginToFollow(reply)
      const signal = AbortSignal.any([abortSignal, closing.signal])
      return reply.send(Readable.from(watchJob(params.id, last, signal), { objectMode: false }))
    },
  )

  /** @throws {Problem} `too_many_followers` */
  function beginToFollow({ raw }: FastifyReply): void {
    if (raw.destroyed) return
    if (followers >= mostFollowers) {
      throw new Problem('too_many_followers', `This process has ${followers} followers of jobs, as many as it may.`, {
        members: { mostFollowers },
        headers: { 'retry-after': String(retryAfterSeconds) },
      })
    }
    followers++
    raw.once('close', () => followers--)
  }

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
        } else if (performance.now() - toldAt >= commentMilliseconds) {
          yield ': the job goes on\n\n'
          toldAt = performance.now()
        }
        if (hasEnded(job)) return
        await change.next(Math.max(0, toldAt + commentMilliseconds - performance.now()))
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
