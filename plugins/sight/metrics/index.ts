import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { countDeliveries } from './events.ts'
import { Meters } from './meters.ts'
import { createProcesses } from './processes.ts'
import { countRequests } from './requests.ts'
import { countStorage } from './storage.ts'
import { countWork, lookAtQueue } from './work.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Undefined where the service does not count. */
    metrics: Awaited<ReturnType<typeof createMetrics>> | undefined
  }
}

async function createMetrics(app: FastifyInstance) {
  // Loaded only where it is used.
  const [{ countRuntime, watchNode }, { formats, toText }] = await Promise.all([
    import('./runtime.ts'),
    import('./exposition.ts'),
  ])
  const meters = new Meters()
  countRequests(meters, app)
  countStorage(meters, app)
  countWork(meters, app)
  countDeliveries(meters)
  countRuntime(meters)
  const node = watchNode()
  const collect = async () => [...meters.collect(), ...(await node())]
  const processes = createProcesses(collect, (err) => app.log.error({ err }, 'the metrics could not be collected'))

  return {
    formats,

    /** What all processes under one supervisor count, and what all of them know. */
    async read(format: keyof typeof formats): Promise<string> {
      const [all, queue] = await Promise.all([processes.all(), lookAtQueue(app)])
      return toText([...all, queue], format)
    },

    end(): void {
      processes.end()
      meters.end()
    },
  }
}

/** Counts what the service does, for Prometheus: docs/metrics.md. */
export default fp(
  async (app) => {
    const metrics = app.config.metrics ? await createMetrics(app) : undefined
    app.decorate('metrics', metrics)
    app.addHook('onClose', async () => metrics?.end())
  },
  { name: 'metrics', dependencies: ['config', 'volumes', 'database', 'job-queue', 'transfers', 'events'] },
)
