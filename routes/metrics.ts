import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { problemResponses } from './schemas.ts'

/** Of the two formats, the one that the client likes better; the older one, where it does not care. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  const { metrics } = app
  if (metrics === undefined) return
  app.addHook('onRequest', app.requireManagerListener)

  app.get(
    '/metrics',
    {
      config: { isProbe: true },
      schema: {
        tags: ['operations'],
        operationId: 'getMetrics',
        summary: 'What the service counts, for Prometheus',
        description:
          'With an Accept of application/openmetrics-text in that format, which has the request ID of an example for ' +
          'each duration.',
        security: [],
        response: {
          200: {
            description: 'the metrics of all workers, added up',
            content: Object.fromEntries(
              Object.values(metrics.formats).map((type) => [type, { schema: Type.String() }]),
            ),
          },
          ...problemResponses,
        },
      },
    },
    async ({ headers: { accept = '' } }, reply) => {
      const format = prefersOpenMetrics(accept) ? 'openMetrics' : 'text'
      const text = await metrics.read(format)
      return reply.type(metrics.formats[format]).header('vary', 'accept').send(text)
    },
  )
}

export default routes

/** Prometheus itself asks with weights (RFC 9110, section 12.4.2). */
function prefersOpenMetrics(accept: string): boolean {
  const weightOf = (type: string) => {
    const ranges = accept.split(',').map((range) => range.trim().toLowerCase())
    const weights = ranges
      .filter((range) => range.split(';')[0]?.trim() === type)
      .map((range) => Number(/;\s*q=([\d.]+)/.exec(range)?.[1] ?? 1))
    return Math.max(0, ...weights)
  }
  const openMetrics = weightOf('application/openmetrics-text')
  return openMetrics > 0 && openMetrics >= weightOf('text/plain')
}
