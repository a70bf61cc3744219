import type { FastifyInstance, FastifyReply } from 'fastify'
import { Problem } from '../../lib/problems.ts'

/** In this process: each asks the database at each change of what it follows. */
const mostFollowers = 256
const retryAfterSeconds = 5

/** The longest pause between comments, which keep proxies from taking the connection for dead. */
const mostCommentMilliseconds = 15_000

/** Those who follow something by server-sent events: of one kind, as many as there may be. */
export function createFollowers(app: FastifyInstance, what: string) {
  const closing = new AbortController()
  let followers = 0
  app.addHook('preClose', async () => closing.abort())

  return {
    /** Half of our own idle timeout at most, so that it does not end the connection either. */
    commentMilliseconds: Math.min(mostCommentMilliseconds, app.config.idleTimeoutSeconds * 500),

    /** Aborts when the service closes: a follower has no end of its own. */
    closing: closing.signal,

    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' },

    /** @throws {Problem} `too_many_followers` */
    add({ raw }: FastifyReply): void {
      if (raw.destroyed) return
      if (followers >= mostFollowers) {
        throw new Problem(
          'too_many_followers',
          `This process has ${followers} followers of ${what}, as many as it may.`,
          {
            members: { mostFollowers },
            headers: { 'retry-after': String(retryAfterSeconds) },
          },
        )
      }
      followers++
      raw.once('close', () => followers--)
    },
  }
}
