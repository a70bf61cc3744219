import fp from 'fastify-plugin'
import metrics from './metrics/index.ts'
import tracing from './tracing/index.ts'

/** What people see of the service. It looks at all rooms, and none of them knows of it. */
export default fp(
  async (app) => {
    await app.register(metrics)
    await app.register(tracing)
  },
  { name: 'sight', dependencies: ['storage', 'work', 'transfer'] },
)
