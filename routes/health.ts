import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { within } from '../lib/within.ts'
import { checkAll } from './checks.ts'
import { problemResponses } from './schemas.ts'

const Check = Type.Object({
  name: Type.String({ description: '`database`, or `volume:` and its name', examples: ['database'] }),
  healthy: Type.Boolean(),
  reason: Type.Optional(Type.String({ description: 'why it is not healthy', examples: ['no answer within 3 s'] })),
  warning: Type.Optional(
    Type.String({
      description: 'what it lacks though it is healthy',
      examples: ['the volume is full: it has 4096 bytes left'],
    }),
  ),
})

const Readiness = Type.Object({
  status: Type.Union([Type.Literal('ready'), Type.Literal('unavailable')]),
  checks: Type.Array(Check),
  notices: Type.Optional(
    Type.Array(Type.String(), {
      description: 'what somebody should know of, though the service does its work',
      examples: [['jobs wait for a process that has the volume archive']],
    }),
  ),
})

/** Who asks for the health waits for what it lacks, not for this. */
const noticeSeconds = 0.2

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.addHook('onRequest', app.requireManagerListener)

  app.get(
    '/livez',
    {
      config: { isProbe: true },
      schema: {
        tags: ['operations'],
        operationId: 'getLiveness',
        summary: 'Whether the process runs',
        security: [],
        response: { 200: Type.Object({ status: Type.Literal('alive') }), '4xx': problemResponses['4xx'] },
      },
    },
    async () => ({ status: 'alive' as const }),
  )

  app.get(
    '/readyz',
    {
      config: { isProbe: true },
      schema: {
        tags: ['operations'],
        operationId: 'getReadiness',
        summary: 'Whether the service can do its work, and what it lacks',
        security: [],
        response: { 200: Readiness, 503: Readiness, '4xx': problemResponses['4xx'] },
      },
    },
    async (_request, reply) => {
      const checks = await checkAll(app)
      const ready = checks.every(({ healthy }) => healthy)
      const notices = await findNotices()
      return reply.code(ready ? 200 : 503).send({
        status: ready ? 'ready' : 'unavailable',
        checks,
        ...(notices.length > 0 && { notices }),
      })
    },
  )

  /** None when they cannot be found out: the check of the database tells why. */
  async function findNotices(): Promise<string[]> {
    const stranded = await within(noticeSeconds, app.jobs.stranded.volumes()).catch(() => [])
    return stranded.map((volume) => `jobs wait for a process that has the volume ${volume}`)
  }
}

export default routes
