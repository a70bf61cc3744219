import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Problem } from '../../lib/problems.ts'
import { Event } from '../../plugins/work/events/event.ts'
import type { TargetState } from '../../plugins/work/events/inspection.ts'
import { fromCursor, toCursor } from '../cursor.ts'
import { Limit, problemResponses, ref, Time } from '../schemas.ts'
import { eventsOff } from './events.ts'

const Name = Type.String({ description: 'of a target', examples: ['https://manager.example/events'] })
const Count = Type.Integer({ minimum: 0, examples: [1] })

const EventTarget = Type.Object(
  {
    name: Name,
    undelivered: Type.Integer({ minimum: 0, description: 'events that it has not taken yet, without dead ones' }),
    oldestUndelivered: Type.Union([Time, Type.Null()], { description: 'when the oldest of them happened' }),
    waiting: Type.Integer({
      minimum: 0,
      description: 'those of them that it did not take while it took others, and what waits behind them',
    }),
    dead: Type.Integer({ minimum: 0, description: 'events that were given up' }),
    failingSince: Type.Union([Time, Type.Null()], { description: 'since when it takes nothing at all' }),
    error: Type.Union([Type.String(), Type.Null()], { description: 'why' }),
  },
  {
    examples: [
      {
        name: 'https://manager.example/events',
        undelivered: 2,
        oldestUndelivered: '2026-01-02T03:04:05.678Z',
        waiting: 0,
        dead: 1,
        failingSince: '2026-01-02T03:05:00.000Z',
        error: 'it answered 500',
      },
    ],
  },
)

const DeadLetter = Type.Object({
  target: Name,
  attempts: Count,
  error: Type.Union([Type.String(), Type.Null()], { description: 'of the last attempt' }),
  event: ref(Event),
})

/** Those who are told of events, and what they did not take. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  const inspection = () => {
    const { telling } = app.events
    if (telling === undefined) throw eventsOff()
    return telling.inspection
  }

  app.get(
    '/events/targets',
    {
      schema: {
        tags: ['events'],
        operationId: 'listEventTargets',
        summary: 'List those who are told of events, and how they get on',
        response: { 200: Type.Object({ targets: Type.Array(EventTarget) }), ...problemResponses },
      },
    },
    async () => ({ targets: (await inspection().states()).map(toAnswer) }),
  )

  app.get(
    '/events/dead-letters',
    {
      schema: {
        tags: ['events'],
        operationId: 'listDeadLetters',
        summary: 'List the events that were given up by page, the oldest first',
        querystring: Type.Object({
          target: Type.Optional(Name),
          limit: Limit(1000, 100),
          cursor: Type.Optional(Type.String()),
        }),
        response: {
          200: Type.Object({
            deadLetters: Type.Array(DeadLetter),
            nextCursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problemResponses,
        },
      },
    },
    async ({ query: { target, limit, cursor } }) => {
      const after = cursor === undefined ? undefined : positionOf(fromCursor(cursor))
      const found = await inspection().listDead({
        limit: limit + 1,
        ...(target !== undefined && { target }),
        ...(after !== undefined && { after }),
      })
      const letters = found.slice(0, limit)
      const last = letters.at(-1)
      const more = found.length > limit && last !== undefined
      return {
        deadLetters: letters.map((letter) => ({ ...letter, error: letter.error ?? null })),
        nextCursor: more ? toCursor(`${last.event.cursor} ${last.target}`) : null,
      }
    },
  )

  app.post(
    '/events/dead-letters/send',
    {
      config: { audit: 'event.send' },
      schema: {
        tags: ['events'],
        operationId: 'sendDeadLetters',
        summary: 'Send events that were given up again',
        description: 'At once, also where the target takes nothing just now; what is not taken then is given up again.',
        body: Type.Object(
          {
            target: Name,
            cursors: Type.Optional(
              Type.Array(Type.String({ pattern: '^\\d{1,15}$' }), {
                minItems: 1,
                maxItems: 1000,
                description: 'of events; default: all of the target',
              }),
            ),
          },
          { additionalProperties: false, examples: [{ target: 'https://manager.example/events', cursors: ['17'] }] },
        ),
        response: { 202: Type.Object({ letters: Count }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { target, cursors } = request.body
      const letters = await inspection().sendAgain(target, cursors)
      if (letters === undefined) throw new Problem('event_target_not_found', `Nobody is told of events as ${target}.`)
      request.auditFacts = { count: letters }
      return reply.code(202).send({ letters })
    },
  )
}

export default routes

function toAnswer({ oldestUndelivered, failingSince, error, ...state }: TargetState) {
  const toTime = (time: number | undefined) => (time === undefined ? null : new Date(time).toISOString())
  return {
    ...state,
    oldestUndelivered: toTime(oldestUndelivered),
    failingSince: toTime(failingSince),
    error: error ?? null,
  }
}

/** @throws {Problem} `invalid_cursor` */
function positionOf(cursor: string): { position: number; target: string } {
  const [position = '', ...target] = cursor.split(' ')
  if (!/^\d{1,15}$/.test(position)) {
    throw new Problem('invalid_cursor', 'cursor must be a nextCursor of an earlier answer')
  }
  return { position: Number(position), target: target.join(' ') }
}
