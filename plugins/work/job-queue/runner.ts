import type { FastifyInstance } from 'fastify'
import { newRequestId, withRequestId } from '../../../lib/context.ts'
import { type RunningAttempt, startAttempt } from './attempt.ts'
import { claimJobs } from './claim.ts'
import { channels, type JobKind, type JobRow } from './job.ts'

/** Runs jobs in this process: as many of each kind as it may, of those that it has the volumes for. */
export function createRunner(app: FastifyInstance, kinds: Map<string, JobKind>) {
  const { database: db } = app
  const volumes = app.volumes.all().map(({ name }) => name)
  const running = new Map<string, { kind: string; attempt: RunningAttempt }>()
  /** The kinds of which there may be jobs to claim. */
  const waiting = new Set<string>()
  let claiming: Promise<void> | undefined
  let subscriptions: (() => void)[] = []
  let isOpen = false

  async function claim(name: string): Promise<void> {
    const kind = kinds.get(name)
    if (kind === undefined) return
    const ofKind = [...running.values()].filter((other) => other.kind === name).length
    const limit = kind.concurrency - ofKind
    if (limit <= 0) return
    const claimed = await claimJobs(app, { kind: name, running: [...running.keys()], volumes, limit })
    for (const row of claimed) start(kind, row)
  }

  function start(kind: JobKind, row: JobRow): void {
    const attempt = startAttempt(app, kind, row)
    running.set(row.id, { kind: kind.kind, attempt })
    attempt.done.then((retryMilliseconds) => {
      running.delete(row.id)
      wake(kind.kind)
      if (retryMilliseconds !== undefined) setTimeout(() => wake(kind.kind), retryMilliseconds).unref()
    })
    if (!isOpen) attempt.stop('closing')
  }

  /** Looks for work now. It runs outside of any request's context: each attempt has the context of its own job. */
  const look = withRequestId(async () => {
    try {
      for (const kind of waiting) {
        waiting.delete(kind)
        if (isOpen) await claim(kind)
      }
    } catch (error) {
      waiting.clear()
      app.log.error({ err: error }, 'jobs could not be claimed')
    }
  }, newRequestId())

  function wake(...names: string[]): void {
    if (!isOpen) return
    for (const name of names) waiting.add(name)
    claiming ??= look().then(() => {
      claiming = undefined
      if (waiting.size > 0) wake()
    })
  }

  const wakeAll = () => wake(...kinds.keys())

  function listen(): void {
    subscriptions = [
      db.onNotified(channels.queued, (kind) => (kind === undefined ? wakeAll() : wake(kind))),
      app.processes.onGone(wakeAll),
      db.onNotified(channels.cancelled, (id) => {
        if (id !== undefined) running.get(id)?.attempt.stop('cancelled')
        else for (const { attempt } of running.values()) attempt.look()
      }),
    ]
  }

  return {
    open(): void {
      isOpen = true
      listen()
      wakeAll()
    },

    /** Puts the running jobs back for the next process, with what they have done so far. */
    async close(): Promise<void> {
      isOpen = false
      for (const end of subscriptions) end()
      await claiming
      for (const { attempt } of running.values()) attempt.stop('closing')
      await Promise.all([...running.values()].map(({ attempt }) => attempt.done))
    },
  }
}
