import fp from 'fastify-plugin'
import pressure from './pressure.ts'
import rates from './rates.ts'

/** Turns requests away before the service suffers: docs/overload.md. */
export default fp(
  async (app) => {
    await app.register(pressure)
    await app.register(rates)
  },
  { name: 'overload', dependencies: ['config', 'errors'] },
)
