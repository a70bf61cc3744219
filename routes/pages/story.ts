import { type Static, Type } from '@sinclair/typebox'
import type { KnownChapter, KnownStory } from '../../plugins/sight/story/known.ts'
import type { StoredRow } from '../../plugins/work/audit/rows.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { toCursor } from '../cursor.ts'
import { ref, Time } from '../schemas.ts'

const MaybeText = Type.Optional(Type.String())

const Event = Type.Object({
  time: Time,
  actor: Type.String({ description: 'who', examples: ['manager:control'] }),
  action: Type.String({ description: 'did what', examples: ['folder.clone'] }),
  outcome: Type.String({ examples: ['succeeded'] }),
  code: Type.Optional(Type.String({ description: 'of the problem' })),
  volume: MaybeText,
  folder: MaybeText,
  path: MaybeText,
  count: Type.Optional(
    Type.Integer({
      description: 'of entries or URLs; which attempt of a job it is; milliseconds of a call of the storage',
    }),
  ),
  bytes: Type.Optional(Type.Integer()),
  subject: Type.Optional(Type.String({ description: 'the job, upload, or other thing that it is about' })),
  process: Type.Optional(Type.String({ description: '`host/pid`, of an attempt of a job' })),
})

const Chapter = Type.Object({
  kind: Type.Union(
    (['request', 'opened', 'job', 'other'] as const).map((kind) => Type.Literal(kind)),
    { description: '`opened`: a request with an ID of its own, by a URL that was signed under this one' },
  ),
  id: Type.Optional(Type.String({ description: 'of the request, where it is another one, or of the job' })),
  title: Type.String(),
  actor: Type.String(),
  begunAt: Time,
  endedAt: Time,
  outcome: MaybeText,
  processes: Type.Array(Type.String(), { description: '`host/pid`, of the attempts of a job' }),
  events: Type.Array(Event),
  job: Type.Optional(ref(Job, { description: 'as it is now' })),
})

const created = {
  time: '2026-01-02T03:04:05.678Z',
  actor: 'manager:control',
  action: 'folder.create',
  outcome: 'succeeded',
  volume: 'default',
  folder: '0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11',
}

/** A story as the API tells it. */
export const Story = Type.Object(
  {
    requestId: Type.String(),
    signedUnder: Type.Array(Type.String(), {
      description: 'the IDs under which the URLs were signed that it opened',
    }),
    chapters: Type.Array(Chapter, {
      description: 'requests and jobs, each told apart, in the order of their beginnings',
    }),
    firstError: Type.Optional(Event),
    nextCursor: Type.Union([Type.String(), Type.Null()]),
  },
  {
    examples: [
      {
        requestId: 'tour-1',
        signedUnder: [],
        chapters: [
          {
            kind: 'request',
            title: `folder.create ${created.folder}`,
            actor: created.actor,
            begunAt: created.time,
            endedAt: created.time,
            outcome: 'succeeded',
            processes: [],
            events: [created],
          },
        ],
        nextCursor: null,
      },
    ],
  },
)

export type Story = Static<typeof Story>

export function toStory({ requestId, signedUnder, chapters, firstError, next }: KnownStory): Story {
  return {
    requestId,
    signedUnder,
    chapters: chapters.map(toChapter),
    ...(firstError && { firstError: toEvent(firstError) }),
    nextCursor: next === undefined ? null : toCursor(`${next.time} ${next.sequence}`),
  }
}

function toChapter({ kind, id, title, actor, begunAt, endedAt, outcome, processes, rows, job }: KnownChapter) {
  return {
    kind,
    ...(id !== undefined && { id }),
    title,
    actor,
    begunAt: new Date(begunAt).toISOString(),
    endedAt: new Date(endedAt).toISOString(),
    ...(outcome !== undefined && { outcome }),
    processes,
    events: rows.map(toEvent),
    ...(job && { job }),
  }
}

function toEvent({ time, actor, action, outcome, vfolder, ...row }: StoredRow): Static<typeof Event> {
  const { code, volume, path, count, bytes, subject, process } = row
  return {
    time: new Date(time).toISOString(),
    actor,
    action,
    outcome,
    ...(code !== null && { code }),
    ...(volume !== null && { volume }),
    ...(vfolder !== null && { folder: vfolder }),
    ...(path !== null && { path }),
    ...(count !== null && { count }),
    ...(bytes !== null && { bytes }),
    ...(subject !== null && { subject }),
    ...(process !== null && { process }),
  }
}
