import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { invalid, Problem } from '../../lib/problems.ts'
import { Event } from '../../plugins/work/events/event.ts'
import { eventStream, ndjson, prefers } from '../accept.ts'
import { Limit, problemResponses, ref } from '../schemas.ts'
import { createFollowers } from './followers.ts'

/** How many events a follower is given at once. */
const page = 100

const routes: FastifyPluginAsyncTypebox = async (app) => {
  const followers = createFollowers(app, 'events')

  app.get(
    '/events',
    {
      schema: {
        tags: ['events'],
        operationId: 'readEvents',
        summary: 'Read what has happened: by page, as NDJSON, or as server-sent events',
        description:
          'In the order of their cursors, all behind `cursor`. A page has what is there; with `Accept: ' +
          `${eventStream}\` the answer goes on with what happens, each with its cursor as its ID, and \`Last-Event-ID\` ` +
          'says where to go on. 410 `events_forgotten`: some of what follows the cursor is not kept any more.',
        querystring: Type.Object({
          cursor: Type.Optional(Type.String({ description: 'of the last event that was read' })),
          from: Type.Optional(
            Type.Unsafe<'oldest' | 'now'>({
              type: 'string',
              enum: ['oldest', 'now'],
              description: 'where to begin without a cursor; default: oldest',
            }),
          ),
          limit: Limit(1000, 100),
        }),
        headers: Type.Object({ 'last-event-id': Type.Optional(Type.String()) }),
        response: {
          200: {
            content: {
              'application/json': {
                schema: Type.Object(
                  {
                    events: Type.Array(ref(Event)),
                    nextCursor: Type.String({ description: 'where to go on, also when there is nothing yet' }),
                  },
                  { examples: [{ events: Event.examples, nextCursor: '17' }] },
                ),
              },
              [ndjson]: { schema: Type.Unknown({ description: 'an Event a line' }) },
              [eventStream]: { schema: Type.Unknown({ description: 'server-sent events' }) },
            },
          },
          ...problemResponses,
        },
      },
    },
    async ({ query: { cursor, from, limit }, headers, method, abortSignal }, reply) => {
      const { telling } = app.events
      if (telling === undefined) throw eventsOff()
      if (cursor !== undefined && from !== undefined) {
        throw invalid('querystring', 'from', 'must be absent where there is a cursor')
      }
      reply.header('vary', 'accept')
      const isFollowed = prefers(eventStream, headers.accept)
      const after = await positionOf(isFollowed ? (headers['last-event-id'] ?? cursor) : cursor, from)
      if (isFollowed) {
        reply.headers(followers.headers)
        if (method === 'HEAD') return reply.send()
        followers.add(reply)
        const signal = AbortSignal.any([abortSignal, followers.closing])
        return reply.send(Readable.from(follow(after, signal), { objectMode: false }))
      }
      const events = await telling.read(after, limit)
      if (prefers(ndjson, headers.accept)) {
        return reply.type(ndjson).send(events.map((event) => `${JSON.stringify(event)}\n`).join(''))
      }
      return { events, nextCursor: events.at(-1)?.cursor ?? String(after) }
    },
  )

  /** @throws {Problem} `invalid_cursor`, `events_forgotten` */
  async function positionOf(cursor: string | undefined, from: 'oldest' | 'now' = 'oldest'): Promise<number> {
    const { telling } = app.events
    if (telling === undefined) throw eventsOff()
    const { last, forgotten } = await telling.positions()
    if (cursor === undefined) return from === 'now' ? last : forgotten
    const position = /^\d{1,15}$/.test(cursor) ? Number(cursor) : Number.NaN
    // One that is ahead is of a database that was restored since.
    if (!(position <= last)) throw new Problem('invalid_cursor', 'cursor must be that of an event of this feed')
    if (position < forgotten) {
      const members = { oldestCursor: String(forgotten) }
      const detail = `Of what follows ${cursor}, the events up to ${forgotten} are not kept any more.`
      throw new Problem('events_forgotten', detail, { members })
    }
    return position
  }

  async function* follow(after: number, signal: AbortSignal): AsyncGenerator<string> {
    const { telling } = app.events
    if (telling === undefined) return
    const more = telling.expectMore(signal)
    let position = after
    let toldAt = performance.now()
    // The client learns at once that it is connected.
    yield ': events follow\n\n'
    try {
      while (!signal.aborted) {
        const events = await telling.read(position, page)
        if (events.length > 0) {
          yield events.map(toMessage).join('')
          position = Number(events.at(-1)?.cursor)
          toldAt = performance.now()
          continue
        }
        if (performance.now() - toldAt >= followers.commentMilliseconds) {
          yield ': nothing happens\n\n'
          toldAt = performance.now()
        }
        await more.next(Math.max(0, toldAt + followers.commentMilliseconds - performance.now()))
      }
    } finally {
      more.end()
    }
  }
}

export default routes

export function eventsOff(): Problem {
  return new Problem('events_off', 'No events are written down here; see EVENTS.')
}

/** HTML, section "Server-sent events". */
function toMessage(event: Event): string {
  return `id: ${event.cursor}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`
}
