import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Amount } from '../../../backends/backend.ts'
import { transact } from '../../storage/database/transact.ts'
import { placed } from '../../work/events/notices.ts'
import { findCounters, type Quota, units } from '../rows.ts'
import { findScope } from './scopes.ts'

declare module 'fastify' {
  interface FastifyInstance {
    quotaWarnings: ReturnType<typeof createQuotaWarnings>
  }
}

interface Subject {
  subject: 'vfolder' | 'quotaScope'
  name: string
  quota: Quota
  usage: Amount
}

/**
 * Tells when a vfolder or a quota scope has come to so much of its limit, and when it has less again. It is looked at after
 * something was told of the vfolder, so that no request waits for it.
 */
function createQuotaWarnings(app: FastifyInstance) {
  const { database: db, config, events } = app
  const percent = events.isOn ? config.quotaWarningPercent : undefined

  async function compare({ subject, name, quota, usage }: Subject): Promise<void> {
    const known = await db
      .selectFrom('quota_warnings')
      .select('unit')
      .where('subject', '=', subject)
      .where('name', '=', name)
      .execute()
    for (const unit of units) {
      const limit = quota[unit]
      const above = limit !== null && usage[unit] > 0 && usage[unit] * 100 >= limit * Number(percent)
      if (above === known.some((row) => row.unit === unit)) continue
      await tell({ subject, name, unit }, above, { usage: usage[unit], quota: limit })
    }
  }

  /** Once: another process may have found it, too. */
  async function tell(
    key: { subject: Subject['subject']; name: string; unit: (typeof units)[number] },
    above: boolean,
    numbers: { usage: number; quota: number | null },
  ): Promise<void> {
    const { subject: limit, name, unit } = key
    await transact(db, async (trx) => {
      const insertion = trx.insertInto('quota_warnings').values(key)
      const removal = trx.deleteFrom('quota_warnings').where('subject', '=', limit).where('name', '=', name)
      const changed = above
        ? await insertion
            .onConflict((conflict) => conflict.doNothing())
            .returning('name')
            .execute()
        : await removal.where('unit', '=', unit).returning('name').execute()
      if (changed.length === 0) return
      const folder = limit === 'vfolder' ? { folder: name } : {}
      const data = { limit, name, unit, above, percent, ...numbers }
      await events.add(trx, { type: 'quota.crossed', ...folder, data })
    })
  }

  async function lookAtScope(scope: string): Promise<void> {
    if (percent === undefined) return
    const found = await findScope(db, scope)
    if (found !== undefined) await compare({ subject: 'quotaScope', name: scope, ...found })
  }

  async function look(folder: string): Promise<void> {
    if (percent === undefined) return
    const counters = await findCounters(db, folder)
    if (counters === undefined) {
      await db.deleteFrom('quota_warnings').where('subject', '=', 'vfolder').where('name', '=', folder).execute()
      return
    }
    await compare({ subject: 'vfolder', name: folder, ...counters })
    if (counters.quotaScope !== null) await lookAtScope(counters.quotaScope)
  }

  return {
    isOn: percent !== undefined,
    /** Looks at a vfolder, and at its scope. */
    look,
    lookAtScope,
  }
}

/** How full quotas are, for whoever is told of events. */
export default fp(
  async (app) => {
    const warnings = createQuotaWarnings(app)
    app.decorate('quotaWarnings', warnings)
    if (!warnings.isOn) return
    let looking = Promise.resolve()
    const waiting = new Set<string>()

    async function lookAll(): Promise<void> {
      for (const folder of waiting) {
        waiting.delete(folder)
        await warnings
          .look(folder)
          .catch((err) => app.log.warn({ err, folder }, 'how full a quota is could not be told'))
      }
    }

    const end = placed.take((folders) => {
      for (const folder of folders) waiting.add(folder)
      looking = looking.then(lookAll)
    })
    app.addHook('preClose', async () => {
      end()
      await looking
    })
  },
  { name: 'quota-warnings', dependencies: ['config', 'database', 'events'] },
)
