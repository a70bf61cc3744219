import fp from 'fastify-plugin'
import { currentRequestId, inContext, newRequestId } from '../../../lib/context.ts'

/** Tells OpenTelemetry what the service does, where OTEL_EXPORTER_OTLP_ENDPOINT says where to: docs/tracing.md. */
export default fp(
  async (app) => {
    const { traces } = app.config
    if (traces === undefined) return
    // Loaded only where it is used.
    const [{ startDelivery }, { traceRequests }, { traceJobs, traceStorage }] = await Promise.all([
      import('./delivery.ts'),
      import('./requests.ts'),
      import('./work.ts'),
    ])
    // Under the ID of the start: spans of many requests are delivered together.
    const context = { request_id: currentRequestId() ?? newRequestId() }
    const { tracer, end } = startDelivery(traces, app.processes.id, (failure) => {
      inContext(context, () => {
        if (failure === undefined) app.log.info('traces are delivered again')
        else app.log.warn({ reason: failure }, 'traces cannot be delivered')
      })
    })
    const ends = [await traceRequests(app), traceStorage(tracer), traceJobs(tracer)]
    app.addHook('onClose', async () => {
      for (const stop of ends) stop()
      await end()
    })
  },
  { name: 'tracing', dependencies: ['config', 'request', 'volumes', 'processes', 'job-queue'] },
)
