import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { AsyncTask, SimpleIntervalJob, ToadScheduler } from 'toad-scheduler'
import { newRequestId, withRequestId } from '../../lib/context.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Runs `task` at the start and then every `seconds`, never twice at once, each time under a request ID of its own.
     * One of all processes runs it: the first one that comes, for as long as it lives. A run that fails is logged, and
     * the next one tries again.
     */
    schedule(name: string, seconds: number, task: (signal: AbortSignal) => Promise<void>): void
  }
}

/** Periodic work on toad-scheduler. */
export default fp(
  async (app) => {
    const scheduler = new ToadScheduler()
    const closing = new AbortController()
    const running = new Map<string, Promise<void>>()
    const standingBy = new Map<string, NodeJS.Timeout>()

    async function tick(name: string, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
      try {
        if (await takeLease(app, name)) await task(closing.signal)
        else standBy(name, task)
      } catch (error) {
        if (!closing.signal.aborted) app.log.error({ err: error, task: name }, 'periodic task failed')
      }
    }

    /** The holder of the lease may be dead already, which shows within the time of a lease. */
    function standBy(name: string, task: (signal: AbortSignal) => Promise<void>): void {
      const milliseconds = app.config.leaseSeconds * 1000 + 1000
      clearTimeout(standingBy.get(name))
      standingBy.set(name, setTimeout(() => run(name, task), milliseconds).unref())
    }

    /** Never twice at once: the timers of a task overlap when it stands by. */
    async function run(name: string, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
      if (running.has(name) || closing.signal.aborted) return
      const ticking = withRequestId(tick, newRequestId())(name, task)
      running.set(name, ticking)
      await ticking
      running.delete(name)
    }

    app.decorate('schedule', (name, seconds, task) => {
      const options = { id: name, preventOverrun: true }
      scheduler.addSimpleIntervalJob(
        new SimpleIntervalJob({ seconds, runImmediately: true }, new AsyncTask(name, () => run(name, task)), options),
      )
    })

    // Not in onClose: by then, what the tasks use may be closed.
    app.addHook('preClose', async () => {
      closing.abort(new Error('the service closes'))
      scheduler.stop()
      for (const timer of standingBy.values()) clearTimeout(timer)
      await Promise.all(running.values())
    })
  },
  { name: 'scheduler', dependencies: ['config', 'database', 'processes'] },
)

/** Makes this process the one that runs a task, unless another one that is alive does. */
async function takeLease({ database: db, processes }: FastifyInstance, task: string): Promise<boolean> {
  const lease = { task, process: processes.id }
  const held = await db
    .selectFrom('task_leases')
    .select('process')
    .where('task', '=', task)
    .where('process', 'in', processes.alive())
    .executeTakeFirst()
  if (held !== undefined) return held.process === processes.id
  await db
    .insertInto('task_leases')
    .values(lease)
    .onConflict((conflict) =>
      conflict
        .column('task')
        .doUpdateSet({ process: processes.id })
        .where('task_leases.process', 'not in', processes.alive()),
    )
    .execute()
  const holder = await db.selectFrom('task_leases').select('process').where('task', '=', task).executeTakeFirst()
  return holder?.process === processes.id
}
