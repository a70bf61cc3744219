import { setImmediate as nextTurn } from 'node:timers/promises'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Counts work of a hook as that of the handler that follows it. */
    countAsHandler<T>(work: Promise<T>): Promise<T>
    /** Resolves when the handlers of all requests have ended, also those whose client is gone. */
    requestsSettled(): Promise<void>
  }
}

/** Knows which handlers still run: when Fastify closes, it does not wait for those whose client is gone. */
export default fp(
  async (app) => {
    const running = new Set<unknown>()

    function count<T>(work: Promise<T>): Promise<T> {
      running.add(work)
      const settled = () => running.delete(work)
      work.then(settled, settled)
      return work
    }

    app.addHook('onRoute', (route) => {
      const { handler } = route
      route.handler = function (request, reply) {
        const result: unknown = handler.call(this, request, reply)
        return result instanceof Promise ? count(result) : result
      }
    })
    app.decorate('countAsHandler', count)
    app.decorate('requestsSettled', async () => {
      while (running.size > 0) {
        await Promise.allSettled(running)
        // The handler that follows a hook has begun by then.
        await nextTurn()
      }
    })
  },
  { name: 'handlers' },
)
