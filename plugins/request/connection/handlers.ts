import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Resolves when the handlers of all requests have come to their end, also of those whose client is gone. */
    requestsSettled(): Promise<unknown>
  }
}

/** Knows which handlers still run, which Fastify does not wait for when it closes and their client is gone. */
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
