import type { FastifyInstance } from 'fastify'
import type { PageOptions, Position, StoredRow } from '../../work/audit/rows.ts'
import { hasEnded, type Job } from '../../work/job-queue/job.ts'
import type { Heading } from './story.ts'

/** What the audit trail and the job queue know of a request, or of a job. */
export interface KnownChapter extends Heading {
  /** Of a request that opened a signed URL: its own, which need not be the only one of that ID. */
  requestId: string
  actor: string
  rows: StoredRow[]
  /** As the queue has it now, if it still does. */
  job?: Job
}

export interface KnownStory {
  requestId: string
  /** Of an ID that opened a URL itself: the one that it was signed under. */
  signedUnder: string[]
  /** In order of time. */
  chapters: KnownChapter[]
  /** The first row that tells of something going wrong. */
  firstError?: StoredRow
  /** Where the next page begins. */
  next?: Position
}

/** @returns undefined when nothing is known */
export async function readStory(
  { audit, jobs }: FastifyInstance,
  requestId: string,
  { limit, after }: PageOptions,
): Promise<KnownStory | undefined> {
  const found = await audit.listOf(requestId, { limit: limit + 1, after })
  const rows = found.slice(0, limit)
  const last = rows.at(-1)
  const ids = new Set(rows.flatMap((row) => jobOf(row) ?? []))
  // A job that no row tells of is as old as the first page.
  const known = await jobs.listOf(requestId, { ids: [...ids], limit: after === undefined ? limit : 0 })
  if (rows.length === 0 && known.length === 0) return undefined
  const firstError = rows.find(isError)
  const own = rows.filter((row) => row.request_id === requestId)
  return {
    requestId,
    signedUnder: [...new Set(own.flatMap(({ origin_request_id: origin }) => origin ?? []))],
    chapters: chaptersOf(requestId, rows, known),
    ...(firstError && { firstError }),
    ...(found.length > limit && last && { next: { time: last.time, sequence: last.sequence } }),
  }
}

function isAsked({ action }: StoredRow): boolean {
  return action === 'job.queue' || action === 'job.cancel' || action === 'job.retry'
}

/** The job that a row is about, or that has done it. */
function jobOf({ action, actor, subject, act }: StoredRow): string | undefined {
  if ((action.startsWith('job.') || isOfStorage(action)) && subject !== null) return subject
  return actor.startsWith('job:') && act !== null ? act : undefined
}

/** Whether it is a call of a backend, which is told of only on the way. */
function isOfStorage(action: string): boolean {
  return action.startsWith('storage.')
}

function chaptersOf(requestId: string, rows: StoredRow[], jobs: Job[]): KnownChapter[] {
  const chapters = new Map<string, KnownChapter>()
  for (const row of rows) {
    // The request that queues or cancels a job tells of it, too.
    if (isAsked(row)) tellRequest(chapters, requestId, row)
    const key = keyOf(row)
    const chapter = chapters.get(key) ?? begin(requestId, row)
    chapters.set(key, chapter)
    add(chapter, row)
  }
  for (const job of jobs) {
    const chapter = chapters.get(`job ${job.id}`) ?? ofQueue(job)
    chapters.set(`job ${job.id}`, chapter)
    tellJob(chapter, job)
  }
  return [...chapters.values()].sort((one, other) => one.begunAt - other.begunAt)
}

/** Rows of one job, or of one request among several of the same ID. */
function keyOf(row: StoredRow): string {
  const job = jobOf(row)
  return job === undefined ? `request ${row.act ?? row.sequence}` : `job ${job}`
}

function tellRequest(chapters: Map<string, KnownChapter>, requestId: string, row: StoredRow): void {
  if (!/^(manager|signed-url|upload):/.test(row.actor) || row.act === null) return
  const key = `request ${row.act}`
  const chapter = chapters.get(key) ?? begin(requestId, { ...row, subject: null })
  chapters.set(key, chapter)
  add(chapter, row)
}

function begin(requestId: string, row: StoredRow): KnownChapter {
  const { time, actor, request_id } = row
  const begunAt = isOfStorage(row.action) ? time - (row.count ?? 0) : time
  const common = { requestId: request_id, actor, begunAt, endedAt: time, processes: [], rows: [] }
  const job = jobOf(row)
  if (job !== undefined) return { ...common, kind: 'job', id: job, title: 'job' }
  const kind = kindOf(row, requestId)
  return { ...common, kind, ...(request_id !== requestId && { id: request_id }), title: titleOf(row) }
}

function kindOf({ actor, request_id }: StoredRow, requestId: string): KnownChapter['kind'] {
  if (actor === 'service') return 'other'
  // The manager comes back to it under another ID, such as to cancel a job.
  return request_id === requestId || actor.startsWith('manager:') ? 'request' : 'opened'
}

function add(chapter: KnownChapter, row: StoredRow): void {
  chapter.rows.push(row)
  chapter.endedAt = Math.max(chapter.endedAt, row.time)
  if (row.process !== null && chapter.processes.at(-1) !== row.process) chapter.processes.push(row.process)
  if (chapter.kind === 'job') {
    if (row.actor.startsWith('job:') && row.action !== 'job.queue') Object.assign(chapter, namedBy(row.actor))
    if (row.action === 'job.end') chapter.outcome = row.outcome
    else chapter.outcome ??= 'not ended'
    return
  }
  const outcome = row.code === null ? row.outcome : `${row.outcome}: ${row.code}`
  // What a request leads to is told before its own end, which it may not have.
  if (isOfStorage(row.action)) {
    chapter.outcome ??= outcome
    return
  }
  if (row.action !== 'job.queue') chapter.title = titleOf(row)
  chapter.outcome = outcome
}

function namedBy(actor: string): Pick<KnownChapter, 'actor' | 'title'> {
  return { actor, title: `job ${actor.slice('job:'.length)}` }
}

function titleOf({ action, path, count, vfolder, subject }: StoredRow): string {
  const entries = count === null || isOfStorage(action) ? undefined : `${count} entries`
  const what = action === 'event.deliver' ? subject : (path ?? entries ?? vfolder ?? subject)
  return what === null || what === undefined ? action : `${action} ${what}`
}

/** One that no row tells of, as when nothing is written down. */
function ofQueue({ id, kind, requestId, createdAt }: Job): KnownChapter {
  const time = Date.parse(createdAt)
  const empty = { begunAt: time, endedAt: time, processes: [], rows: [] }
  return { kind: 'job', id, title: `job ${kind}`, requestId, actor: `job:${kind}`, ...empty }
}

function tellJob(chapter: KnownChapter, job: Job): void {
  Object.assign(chapter, namedBy(`job:${job.kind}`))
  chapter.job = job
  chapter.outcome = hasEnded(job) ? job.state : 'not ended'
  if (job.finishedAt !== null) chapter.endedAt = Math.max(chapter.endedAt, Date.parse(job.finishedAt))
}

/** A refusal is one for whoever asked, though not for the service. */
const errors = ['failed', 'refused', 'aborted', 'repeated', 'lost']

function isError({ outcome }: StoredRow): boolean {
  return errors.includes(outcome)
}
