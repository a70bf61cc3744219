import { type Static, type TSchema, Type } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import { type Selectable, sql } from 'kysely'
import type { Amount } from '../../../backends/backend.ts'
import { type Database, jobStates, type Tables } from '../../storage/database/tables.ts'
import type { Facts } from '../audit/facts.ts'

const Count = Type.Integer({ minimum: 0 })
const Total = Type.Union([Count, Type.Null()], { description: 'null as long as it is not known' })
export const MaybeTime = Type.Union([Type.String({ format: 'date-time' }), Type.Null()])

export const JobError = Type.Object({ code: Type.String(), detail: Type.String() })

/** A job as the API shows it. */
export const Job = Type.Object(
  {
    id: Type.String(),
    kind: Type.String(),
    folder: Type.Union([Type.String(), Type.Null()], { description: 'the vfolder that it works on; null: all' }),
    state: Type.Union(jobStates.map((state) => Type.Literal(state))),
    progress: Type.Object({ filesDone: Count, filesTotal: Total, bytesDone: Count, bytesTotal: Total }),
    requestId: Type.String({ description: 'of the request that started it; all its log lines have it' }),
    attempts: Type.Integer({ minimum: 0, description: 'how often it was started' }),
    result: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), { description: 'what its kind has to say at the end' }),
    ),
    error: Type.Optional({ ...JobError, description: 'why it failed, or why the last attempt did' }),
    createdAt: Type.String({ format: 'date-time' }),
    startedAt: MaybeTime,
    finishedAt: MaybeTime,
  },
  {
    $id: 'Job',
    title: 'Job',
    examples: [
      {
        id: '0198c7a3-0b1c-7e2d-8f3a-4b5c6d7e8f90',
        kind: 'clone-vfolder',
        folder: '0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11',
        state: 'running',
        progress: { filesDone: 1, filesTotal: 2, bytesDone: 5, bytesTotal: 10 },
        requestId: 'tour-1',
        attempts: 1,
        createdAt: '2026-01-02T03:04:05.678Z',
        startedAt: '2026-01-02T03:04:05.700Z',
        finishedAt: null,
      },
    ],
  },
)
export type Job = Static<typeof Job>
export type JobRow = Selectable<Tables['jobs']>

/** What the API shows of a row: what a job was given may be large. */
export const shownColumns = [
  'id',
  'kind',
  'vfolder',
  'state',
  'files_done',
  'files_total',
  'bytes_done',
  'bytes_total',
  'request_id',
  'attempts',
  'result',
  'error',
  'created_at',
  'started_at',
  'finished_at',
] as const

export function toJob(row: Pick<JobRow, (typeof shownColumns)[number]>): Job {
  return {
    id: row.id,
    kind: row.kind,
    folder: row.vfolder,
    state: row.state,
    progress: {
      filesDone: row.files_done,
      filesTotal: row.files_total,
      bytesDone: row.bytes_done,
      bytesTotal: row.bytes_total,
    },
    requestId: row.request_id,
    attempts: row.attempts,
    ...(row.result !== null && { result: JSON.parse(row.result) }),
    ...(row.error !== null && { error: JSON.parse(row.error) }),
    createdAt: row.created_at,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
  }
}

export function hasEnded({ state }: Pick<Job, 'state'>): boolean {
  return state !== 'queued' && state !== 'running'
}

/** Since when a job that is queued waits. */
export const queuedAt = sql<string>`coalesce(queued_again_at, created_at)`

/** What processes tell each other: that a job of a kind is due, and of a job, by its ID, that it is to end or has changed. */
export const channels = { queued: 'job-queued', cancelled: 'job-cancelled', changed: 'job-changed' }

/** When a job is due that waits for nothing: the clock of the process that claims it may be a little behind. */
export const atOnce = 0

export type JobEnd = Exclude<Job['state'], 'queued' | 'running'>

/** A kind of job: what it is given, and what it does. */
export interface JobKind<Payload extends TSchema = TSchema> {
  kind: string
  payload: Payload
  /** How many of them one process runs at once. */
  concurrency: number
  /** Whether it may be ended half done. */
  cancellable: boolean
  /**
   * Does the work, or goes on with it: an attempt may follow one that ended at any instant. A typed error that is the
   * caller's doing ends the job; after any other it is tried again. The returned value is the job's `result`.
   */
  run(attempt: Attempt<Static<Payload>>): Promise<Record<string, unknown> | undefined>
  /** What is told of the job's end beside the job itself. */
  told?(payload: Static<Payload>): Record<string, unknown>
  /** What the audit trail says it has done when it has succeeded; absent: what it calls has told of that. */
  audited?(payload: Static<Payload>, result: Record<string, unknown>): Facts
  /** Makes the changes that belong to the job's end, in the same transaction. */
  ended?(job: EndedJob<Static<Payload>>, end: JobEnd, db: Database): Promise<void>
  /**
   * Makes what the job needs to begin anew, in the transaction that queues it once more; `ended` has undone it. Absent: it
   * goes on from its last checkpoint.
   * @throws {Problem} `job_not_retryable` when that cannot be
   */
  prepareRetry?(job: EndedJob<Static<Payload>>, db: Database): Promise<void>
}

export interface EndedJob<Payload = unknown> {
  id: string
  folder: string | null
  payload: Payload
  /** What `run` returned, when it did. */
  result?: Record<string, unknown> | undefined
}

/** Ties the type of the payload to its schema; the queue forgets it again. */
export function defineJob<Payload extends TSchema>(definition: JobKind<Payload>): JobKind {
  return definition
}

/** One run of a job. */
export interface Attempt<Payload = unknown> {
  readonly id: string
  readonly folder: string | null
  readonly payload: Payload
  /** 1 for the first attempt. */
  readonly number: number
  /** What an earlier attempt saved last; undefined for the first. */
  readonly checkpoint: unknown
  /** Aborts when the job is cancelled, when the service closes, and when another process took the job over. */
  readonly signal: AbortSignal
  readonly log: FastifyBaseLogger
  /**
   * Call it right before a step that must not happen once another process goes on with the job. Rejects, as `signal`
   * aborts, when one does.
   */
  confirm(): Promise<void>
  /** Tells how far it has come; it is written at a bounded rate. */
  progress(done: Amount, total?: Amount): void
  /** Saves, at the same rate, where a later attempt goes on. */
  save(checkpoint: unknown): void
  /**
   * Saves it at once, right before a step that others may see in part: from here on the job cannot be cancelled, and is
   * tried again after any passing failure until it has come to its end. Rejects when the attempt was stopped before.
   */
  commit(checkpoint: unknown): Promise<void>
}
