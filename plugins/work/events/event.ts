import { randomUUID } from 'node:crypto'
import { type Static, Type } from '@sinclair/typebox'
import type { Insertable, Selectable } from 'kysely'
import { currentContext, newRequestId, traceparent } from '../../../lib/context.ts'
import type { Tables } from '../../storage/database/tables.ts'

export const eventTypes = [
  'vfolder.created',
  'vfolder.cloned',
  'vfolder.deleted',
  'vfolder.restored',
  'file.stored',
  'file.moved',
  'file.deleted',
  'file.restored',
  'upload.expired',
  'job.ended',
  'quota.crossed',
  'volume.unwell',
  'volume.well',
] as const
export type EventType = (typeof eventTypes)[number]

const MaybeText = (description: string) => Type.Union([Type.String(), Type.Null()], { description })

/** An event as it is told: the body of a webhook, and a line of the feed. */
export const Event = Type.Object(
  {
    id: Type.String({ description: 'stays the same however often it is told' }),
    type: Type.String({ description: 'such as `vfolder.created`; there may be more of them later' }),
    timestamp: Type.String({ format: 'date-time' }),
    requestId: Type.String({ description: 'of the request, or of what it led to, in which it happened' }),
    originRequestId: MaybeText('of the request that signed the URL by which it happened, where it did so by one'),
    folder: MaybeText('the vfolder, where it is about one'),
    volume: MaybeText('the volume, where that is known'),
    cursor: Type.String({ description: 'its place in the feed: what follows is behind it' }),
    data: Type.Record(Type.String(), Type.Unknown(), { description: 'what the type has to say' }),
  },
  {
    $id: 'Event',
    title: 'Event',
    examples: [
      {
        id: '0198c7a5-6b1c-7e2d-8f3a-4b5c6d7e8f90',
        type: 'vfolder.created',
        timestamp: '2026-01-02T03:04:05.678Z',
        requestId: 'tour-1',
        originRequestId: null,
        folder: '0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11',
        volume: 'default',
        cursor: '17',
        data: { adopted: false },
      },
    ],
  },
)
/** The trace is told in a header, and no member of the JSON. */
export type Event = Static<typeof Event> & { [traceparent]?: string | null }

export interface NewEvent {
  type: EventType
  folder?: string
  volume?: string
  /** Absent: those of the work in which it happens. */
  requestId?: string
  originRequestId?: string | undefined
  data: Record<string, unknown>
}

export type EventRow = Omit<Selectable<Tables['events']>, 'number' | 'position'> & { position: number }

/** @param now by the clock of the database */
export function toRow(
  { type, folder, volume, requestId, originRequestId, data }: NewEvent,
  now: number,
): Insertable<Tables['events']> {
  const context = currentContext()
  const origin = requestId === undefined ? context?.origin_request_id : originRequestId
  const isOfContext = requestId === undefined || requestId === context?.request_id
  return {
    id: randomUUID(),
    type,
    vfolder: folder ?? null,
    volume: volume ?? null,
    request_id: requestId ?? context?.request_id ?? newRequestId(),
    origin_request_id: origin ?? null,
    traceparent: (isOfContext ? context?.[traceparent] : undefined) ?? null,
    time: now,
    data: JSON.stringify(data),
  }
}

export function toEvent(row: EventRow): Event {
  return {
    id: row.id,
    type: row.type,
    timestamp: new Date(row.time).toISOString(),
    requestId: row.request_id,
    originRequestId: row.origin_request_id,
    folder: row.vfolder,
    volume: row.volume,
    cursor: String(row.position),
    data: JSON.parse(row.data),
    [traceparent]: row.traceparent,
  }
}

/** What is told in order: all of a vfolder, of a volume, and of the rest. */
export function laneOf({ vfolder, volume }: Pick<EventRow, 'vfolder' | 'volume'>): string {
  return vfolder ?? (volume === null ? '' : `volume ${volume}`)
}
