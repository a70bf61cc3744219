import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Resolves when the handlers of all requests have ended, also those whose client is gone. */
    requestsSettled(): Promise<unknown>
  }
}

/** Knows which handlers still run: when Fastify closes, it does not wait for those whose client is gone. */
export default fp(
  async (app) => {
    const running = new Set<unknown>()
    app.addHook('onRoute', (route) => {
      const { handler } = route
      route.handler = function (request, reply) {
        const result: unknown = handler.call(this, request, reply)
        if (result instanceof Promise) {
          running.add(result)
          const settled = () => running.delete(result)
          result.then(settled, settled)
        }
        return result
      }
    })
    app.decorate('requestsSettled', () => Promise.allSettled(running))
  },
  { name: 'handlers' },
)
