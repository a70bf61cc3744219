import { randomUUID } from 'node:crypto'
import fp from 'fastify-plugin'
import { AsyncTask, SimpleIntervalJob, ToadScheduler } from 'toad-scheduler'
import { withRequestId } from './request-id.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Runs `task` at the start and then every `seconds`, never twice at once, each time under a request ID of its own.
     * A run that fails is logged, and the next one tries again.
     */
    schedule(name: string, seconds: number, task: (signal: AbortSignal) => Promise<void>): void
  }
}

/** Periodic work on toad-scheduler. */
export default fp(
  async (app) => {
    const scheduler = new ToadScheduler()
    const closing = new AbortController()
    const running = new Set<Promise<void>>()

    async function tick(name: string, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
      try {
        await task(closing.signal)
      } catch (error) {
        if (!closing.signal.aborted) app.log.error({ err: error, task: name }, 'periodic task failed')
      }
    }

    app.decorate('schedule', (name, seconds, task) => {
      const run = async () => {
        const ticking = withRequestId(tick, randomUUID())(name, task)
        running.add(ticking)
        await ticking
        running.delete(ticking)
      }
      const options = { id: name, preventOverrun: true }
      scheduler.addSimpleIntervalJob(
        new SimpleIntervalJob({ seconds, runImmediately: true }, new AsyncTask(name, run), options),
      )
    })

    app.addHook('onClose', async () => {
      closing.abort()
      scheduler.stop()
      await Promise.all(running)
    })
  },
  { name: 'scheduler', dependencies: ['request-id'] },
)
