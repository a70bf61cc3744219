import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Problem } from '../../lib/problems.ts'
import { readStory } from '../../plugins/sight/story/known.ts'
import type { Position } from '../../plugins/work/audit/rows.ts'
import { prefers } from '../accept.ts'
import { fromCursor } from '../cursor.ts'
import { Limit, problemResponses } from '../schemas.ts'
import { Story, toStory } from './story.ts'
import { toPage } from './story-page.ts'

const html = 'text/html'
/** What is known of a request ID. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/requests/:requestId',
    {
      schema: {
        tags: ['operations'],
        operationId: 'tellStory',
        summary: 'Tell what is known of a request ID, and of what it led to',
        description:
          'In order of time: requests, who opened the URLs that were signed, uploads and jobs. A page has so many events; a ' +
          'request or job with more is on several. With an Accept of text/html it is a page for people.',
        params: Type.Object({ requestId: Type.String({ pattern: '^[A-Za-z0-9._:-]{1,128}$', examples: ['tour-1'] }) }),
        querystring: Type.Object({ limit: Limit(1000, 200), cursor: Type.Optional(Type.String()) }),
        response: {
          200: { content: { 'application/json': { schema: Story }, [html]: { schema: Type.String() } } },
          ...problemResponses,
        },
      },
    },
    async ({ params: { requestId }, query: { limit, cursor }, headers }, reply) => {
      const after = cursor === undefined ? undefined : positionOf(fromCursor(cursor))
      const known = await readStory(app, requestId, { limit, after })
      if (known === undefined) throw notKnown(requestId, app.audit.isOn)
      reply.headers({ vary: 'accept', 'cache-control': 'no-store' })
      const story = toStory(known)
      if (!prefers(html, headers.accept)) return story
      const policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
      reply.headers({ 'content-security-policy': policy, 'x-content-type-options': 'nosniff' })
      return reply.type(`${html}; charset=utf-8`).send(toPage(story))
    },
  )
}

export default routes

function notKnown(requestId: string, isAudited: boolean): Problem {
  const why = isAudited ? '' : ' With AUDIT=off nothing but jobs is known.'
  return new Problem('request_not_known', `Nothing is known of ${requestId}.${why}`)
}

function positionOf(cursor: string): Position {
  const [, time, sequence] = /^(\d{1,15}) (\d{1,15})$/.exec(cursor) ?? []
  if (time === undefined || sequence === undefined) {
    throw new Problem('invalid_cursor', 'cursor must be a nextCursor of an earlier answer')
  }
  return { time: Number(time), sequence: Number(sequence) }
}
