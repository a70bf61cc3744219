import type { FastifyInstance } from 'fastify'
import type { Amount } from '../../../backends/backend.ts'
import { inContext } from '../../../lib/context.ts'
import { Problem, problems, toProblem } from '../../../lib/problems.ts'
import { isPassing } from '../../storage/database/failures.ts'
import type { Database, Tables } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import * as attempts from './attempts.ts'
import { auditedOf, contextOf } from './audited.ts'
import { tellEnd } from './ended.ts'
import { type Attempt, atOnce, channels, type JobEnd, type JobKind, type JobRow } from './job.ts'
import { type AttemptEnd, attemptBegun, attemptEnded, progressSaved } from './notices.ts'

/** How often a running job saves its progress. */
const saveMilliseconds = 500

/** Failures in a row, without a step forward in between, after which a job has failed. */
const maxFailures = 5

/** Before the second attempt, doubled before each further one, up to the longest. */
const firstDelayMilliseconds = 1000
const longestDelayMilliseconds = 30_000

/** What its end changes in the row of a job. */
interface Ending {
  error?: string | null
  failures?: number
  due_at?: number
  result?: string
}

/** Why an attempt was stopped from outside; `cut off`: this process may count as dead, and another one may go on. */
type Stop = 'cancelled' | 'closing' | 'lost' | 'cut off'

export interface RunningAttempt {
  /** Its end; the job is due again after so many milliseconds, if at all. */
  readonly done: Promise<number | undefined>
  stop(reason: Stop): void
  /** Finds out whether the job was cancelled, or taken over. */
  look(): Promise<void>
}

/** Runs a job that this process has claimed, in the context of the request that started it. */
export function startAttempt(app: FastifyInstance, kind: JobKind, row: JobRow): RunningAttempt {
  const context = contextOf(row)
  const attempt = inContext(context, () => run(app, kind, row))
  return { ...attempt, look: () => inContext(context, attempt.look) }
}

function run(app: FastifyInstance, kind: JobKind, row: JobRow): RunningAttempt {
  const { database: db, processes, audit, log } = app
  const controller = new AbortController()
  const closing = new AbortController()
  const job = { id: row.id, folder: row.vfolder, payload: JSON.parse(row.payload) }
  const audited = { ...auditedOf(row), process: processes.name }
  let amount: { count?: number; bytes?: number } = {}
  let stopped: Stop | undefined
  let retryMilliseconds: number | undefined
  let unsaved: Partial<Tables['jobs']> = {}

  const stop = (reason: Stop) => {
    stopped ??= reason
    if (reason === 'closing') closing.abort()
    controller.abort(new Error(`the job was stopped: ${reason}`))
  }

  /** Changes the row only as long as this very attempt holds the job; else it is undefined. */
  async function changeHeld(trx: Database, set: object, unlessCancelled = false) {
    const held = await trx
      .updateTable('jobs')
      .set((eb) => ({ ...set, version: eb('version', '+', 1) }))
      .where('id', '=', row.id)
      .where('state', '=', 'running')
      .where('process', '=', row.process)
      .where('attempts', '=', row.attempts)
      .$if(unlessCancelled, (query) => query.where('cancel_requested', '=', 0))
      .returning('cancel_requested')
      .executeTakeFirst()
    if (held !== undefined) await db.notify(trx, channels.changed, row.id)
    return held
  }

  const findHeld = () =>
    db
      .selectFrom('jobs')
      .select('cancel_requested')
      .where('id', '=', row.id)
      .where('state', '=', 'running')
      .where('process', '=', row.process)
      .where('attempts', '=', row.attempts)
      .executeTakeFirst()

  const isGivenUp = (failures: number) => failures >= maxFailures && row.committed === 0

  async function saveAndLook(): Promise<void> {
    const set = unsaved
    unsaved = {}
    const isChanged = Object.keys(set).length > 0
    const finding = isChanged ? transact(db, (trx) => changeHeld(trx, set)) : findHeld()
    const held = await finding.catch((error) => {
      unsaved = { ...set, ...unsaved }
      throw error
    })
    if (held !== undefined && isChanged) progressSaved.give(Object.assign(row, set))
    if (held === undefined) stop('lost')
    else if (held.cancel_requested !== 0) stop('cancelled')
  }

  async function saveWhatIsNew(): Promise<void> {
    if (Object.keys(unsaved).length > 0) await saveAndLook()
  }

  async function writeDown(trx: Database, outcome: AttemptEnd, ended_at: string, { error = null }: Ending) {
    await attempts.end(trx, { job: row.id, number: row.attempts }, { outcome, ended_at, error })
  }

  /**
   * Ends the attempt, and makes the changes that belong to its end. What was done need not be done again: it is kept
   * until the database takes it, or another process has the job.
   */
  async function end(state: JobEnd, set: Ending, result?: Record<string, unknown>, code?: string): Promise<void> {
    const ending = () =>
      transact(db, async (trx) => {
        const finished_at = new Date(db.now()).toISOString()
        const held = await changeHeld(trx, { ...unsaved, ...set, state, process: null, finished_at })
        if (held === undefined) return
        await writeDown(trx, state, finished_at, set)
        if (result !== undefined && kind.audited) {
          audit.write(trx, { ...auditedOf(row), ...kind.audited(job.payload, result) })
        }
        audit.write(trx, { action: 'job.end', outcome: state, code, ...amount, ...audited })
        await kind.ended?.({ ...job, result }, state, trx)
        await tellEnd(app, trx, row.id, kind)
      })
    await db.insist(ending, closing.signal)
  }

  /** @returns whether this attempt still held the job */
  async function putBack(set: Ending, outcome: 'repeated' | 'interrupted', code?: string): Promise<boolean> {
    const back = { ...unsaved, ...set, state: 'queued', process: null }
    const putting = () =>
      transact(db, async (trx) => {
        const held = await changeHeld(trx, back)
        if (held === undefined) return false
        await writeDown(trx, outcome, new Date(db.now()).toISOString(), set)
        audit.write(trx, { action: 'job.attempt', outcome, code, count: row.attempts, ...audited })
        await db.notify(trx, channels.queued, row.kind)
        return true
      })
    return db.insist(putting, closing.signal)
  }

  const logUnsaved = (err: unknown) => log.error({ err }, 'the job could not save its progress')

  async function handleFailure(error: unknown): Promise<AttemptEnd> {
    const problem = toProblem(error)
    const text = JSON.stringify({ code: problem.code, detail: problem.message })
    // The job has done nothing wrong when the database is away.
    const failures = row.failures + (isPassing(error) ? 0 : 1)
    const details = { code: problem.code, err: problem.cause ?? problem }
    if (!problems[problem.code].passing || isGivenUp(failures)) {
      await end('failed', { error: text, failures }, undefined, problem.code)
      log.error(details, 'job failed')
      return 'failed'
    }
    const delay = Math.min(firstDelayMilliseconds * 2 ** row.failures, longestDelayMilliseconds)
    await putBack({ error: text, failures, due_at: db.now() + delay }, 'repeated', problem.code)
    retryMilliseconds = delay
    log.warn({ ...details, delay_ms: delay }, 'attempt failed and will be repeated')
    return 'repeated'
  }

  const attempt: Attempt = {
    ...job,
    number: row.attempts,
    checkpoint: row.checkpoint === null ? undefined : JSON.parse(row.checkpoint),
    signal: controller.signal,
    log,
    progress(done: Amount, total?: Amount) {
      amount = { count: done.files, bytes: done.bytes }
      Object.assign(unsaved, { files_done: done.files, bytes_done: done.bytes })
      if (total !== undefined) Object.assign(unsaved, { files_total: total.files, bytes_total: total.bytes })
    },
    async confirm() {
      await saveAndLook()
      controller.signal.throwIfAborted()
    },
    save(checkpoint) {
      const text = JSON.stringify(checkpoint)
      if (text === row.checkpoint) return
      row.checkpoint = text
      // After a step forward, earlier failures do not count.
      row.failures = 0
      Object.assign(unsaved, { checkpoint: text, failures: 0 })
    },
    async commit(checkpoint) {
      attempt.save(checkpoint)
      const committed = { ...unsaved, committed: 1 }
      unsaved = {}
      const held = await transact(db, (trx) => changeHeld(trx, committed, true))
      if (held === undefined) await saveAndLook()
      controller.signal.throwIfAborted()
      row.committed = 1
    },
  }

  async function work(): Promise<void> {
    const started = performance.now()
    const follower = attemptBegun.give(row)
    let ended: AttemptEnd | undefined
    try {
      ended = await (follower === undefined ? runToEnd(started) : follower.run(() => runToEnd(started)))
    } finally {
      follower?.end(ended === 'succeeded' ? undefined : (ended ?? 'lost'))
    }
    attemptEnded.give(kind.kind, ended, (performance.now() - started) / 1000)
  }

  async function runToEnd(started: number): Promise<AttemptEnd> {
    log.info({ kind: kind.kind, folder: row.vfolder, attempt: row.attempts }, 'job started')
    const saving = repeat(saveWhatIsNew, saveMilliseconds, logUnsaved)
    // By an earlier attempt's process, which has died since.
    if (row.cancel_requested !== 0) stop('cancelled')
    const watching = watchTouch(processes, () => stop('cut off'))
    let outcome: { result: Record<string, unknown> | undefined } | { error: unknown }
    try {
      if (isGivenUp(row.failures)) throw new Problem('job_abandoned', 'Each process that ran it died.')
      outcome = { result: await kind.run(attempt) }
    } catch (error) {
      outcome = { error }
    } finally {
      clearInterval(watching)
      await saving.stop()
    }
    const duration = { duration_ms: Math.round(performance.now() - started) }
    if ('result' in outcome) {
      const { result } = outcome
      await end('succeeded', { error: null, ...(result && { result: JSON.stringify(result) }) }, result)
      log.info({ ...duration, ...(result && { result }) }, 'job succeeded')
      return 'succeeded'
    }
    if (stopped === undefined) return handleFailure(outcome.error)
    if (stopped === 'cancelled') {
      await end('cancelled', {})
      log.info(duration, 'job cancelled')
      return 'cancelled'
    }
    if (stopped === 'closing') {
      await putBack({ due_at: atOnce }, 'interrupted')
      log.info(duration, 'job interrupted, since the service closes')
      return 'interrupted'
    }
    if (stopped === 'cut off' && (await putBack({ due_at: atOnce }, 'interrupted'))) {
      log.warn(duration, 'job interrupted, since the database was away for longer than a lease')
      return 'interrupted'
    }
    log.warn(duration, 'job was taken over by another process')
    return 'lost'
  }

  const done = work().then(
    () => retryMilliseconds,
    (err) => {
      log.error({ err }, 'the end of an attempt could not be stored; it is repeated')
      return undefined
    },
  )

  let isLooking = false
  /** Never twice at once: while the database is away each look would hold a connection. */
  async function look(): Promise<void> {
    if (isLooking) return
    isLooking = true
    await saveAndLook().catch(logUnsaved)
    isLooking = false
  }

  return { done, stop, look }
}

/**
 * Another process takes the job over when this one has not shown itself for a lease. A second look gives one that only
 * stood still the time to find out whether that has happened.
 */
function watchTouch(processes: FastifyInstance['processes'], onLost: () => void): NodeJS.Timeout {
  let wasLost = false
  return setInterval(() => {
    const isLost = !processes.isInTouch()
    if (isLost && wasLost) onLost()
    wasLost = isLost
  }, saveMilliseconds)
}

/** Calls `fn` again and again, never twice at once, until it is stopped. */
function repeat(fn: () => Promise<void>, milliseconds: number, onError: (error: unknown) => void) {
  let running = Promise.resolve()
  const timer = setInterval(() => {
    running = running.then(fn).catch(onError)
  }, milliseconds)
  return {
    async stop(): Promise<void> {
      clearInterval(timer)
      await running
    },
  }
}
