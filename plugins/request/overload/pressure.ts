import fp from 'fastify-plugin'
import { Problem } from '../../../lib/problems.ts'
import { type Refusal, requestRefused } from './notices.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Asked for again and again by what looks after the service: answered also under overload, and never traced. */
    isProbe?: true
  }
}

/** By the names that @fastify/under-pressure has for them. */
const pressures: Record<string, { refusal: Refusal; detail: string }> = {
  eventLoopDelay: { refusal: 'event_loop', detail: 'This process comes to its work too late.' },
  heapUsedBytes: { refusal: 'heap', detail: 'This process has hardly any room left in its heap.' },
  rssBytes: { refusal: 'memory', detail: 'This process has hardly any memory left.' },
}

/** Turns requests away while the process is over one of its limits, as it finds once a second. */
export default fp(
  async (app) => {
    const { maxEventLoopDelayMilliseconds, maxHeapBytes, maxMemoryBytes } = app.config
    if (maxEventLoopDelayMilliseconds + maxHeapBytes + maxMemoryBytes === 0) return
    // Loaded only where it is used.
    const { default: underPressure } = await import('@fastify/under-pressure')
    await app.register(underPressure, {
      maxEventLoopDelay: maxEventLoopDelayMilliseconds,
      maxHeapUsedBytes: maxHeapBytes,
      maxRssBytes: maxMemoryBytes,
      async pressureHandler({ routeOptions }, _reply, type) {
        const pressure = pressures[type]
        if (pressure === undefined || routeOptions.config.isProbe) return
        requestRefused.give(pressure.refusal)
        throw new Problem('overloaded', pressure.detail)
      },
    })
  },
  { name: 'overload-pressure', dependencies: ['config', 'errors'] },
)
