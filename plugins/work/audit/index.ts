import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { actorOf, currentContext, type LogContext, newRequestId, workOf } from '../../../lib/context.ts'
import { Problem, toProblem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'
import { afterCommit, transact, withCommit } from '../../storage/database/transact.ts'
import { Batch } from './batch.ts'
import type { Action, Facts } from './facts.ts'
import type { AuditLogFile } from './log-file.ts'
import { type AuditRow, createInsertion, listOf, type PageOptions, removeOld, type StoredRow } from './rows.ts'

declare module 'fastify' {
  interface FastifyInstance {
    audit: ReturnType<typeof createAudit>
  }
}

/** How many old rows go in one transaction. */
const removedAtOnce = 1000
const removalSeconds = 3600
const dayMilliseconds = 86_400_000

interface Act {
  /** Tells requests of one ID from each other. */
  id: string
  actions: Set<Action>
}

interface Use {
  /** It changes nothing. */
  isRead: boolean
}

const unaudited = 'What is done could not be written into the audit table, so it is not done.'

/** What no request and no job asked for. */
const service = 'service'

function createAudit({ database: db, config, processes, log }: FastifyInstance, file: AuditLogFile | undefined) {
  const { audit: isOn } = config
  const insertion = createInsertion(db)
  const batch = new Batch((rows) => transact(db.unflushed, async (trx) => writeRows(trx, rows)), log)
  const inTransaction = new WeakMap<Database, AuditRow[]>()
  /** What is told of each request or job by now. */
  const acts = new WeakMap<object, Act>()
  let actsBegun = 0
  let trying: Promise<void> | undefined

  function toRow(facts: Facts, context: LogContext, act: string | undefined): AuditRow {
    const { request_id, origin_request_id } = context
    const origin = facts.origin ?? origin_request_id
    return {
      time: db.now(),
      request_id,
      origin_request_id: origin === undefined || origin === request_id ? null : origin,
      act: act ?? null,
      actor: actorOf(context) ?? service,
      action: facts.action,
      volume: facts.volume ?? null,
      vfolder: facts.folder ?? null,
      path: facts.path ?? null,
      count: facts.count ?? null,
      bytes: facts.bytes ?? null,
      outcome: facts.outcome ?? 'succeeded',
      code: facts.code ?? null,
      subject: facts.subject ?? null,
      process: facts.process ?? null,
    }
  }

  function actOf(context: LogContext): Act {
    const known = acts.get(workOf(context))
    if (known !== undefined) return known
    // Those of all attempts of a job are of one act, whichever process ran them.
    const id = context.job_id ?? `${processes.id.slice(0, 8)}.${(actsBegun++).toString(36)}`
    const act = { id, actions: new Set<Action>() }
    acts.set(workOf(context), act)
    return act
  }

  /** One statement for all rows of a transaction; those without one go with the next batch. */
  function writeRows(on: Database, rows: AuditRow[]): void {
    if (rows.length === 0) return
    const all = inTransaction.get(on) ?? []
    all.push(...rows)
    if (all.length > rows.length) return
    if (withCommit(on, () => insertion(all))) {
      inTransaction.set(on, all)
      afterCommit(on, () => written(all))
    } else {
      batch.add(all)
    }
  }

  function written(rows: AuditRow[]): void {
    if (file !== undefined) for (const row of rows) file.write(row)
  }

  /** Finds out, for all who ask meanwhile, whether the database still fails. */
  function tryDatabase(): Promise<void> {
    trying ??= db
      .requireOver()
      .then(() => batch.flush())
      .finally(() => {
        trying = undefined
      })
    return trying
  }

  /** Whether rows can be written, as far as is known. What only reads goes on while its rows can wait. */
  function isReady({ isRead }: Use): boolean {
    return !isOn || (!batch.isFull && (isRead || db.failure() === undefined))
  }

  return {
    isOn,

    /** A row for whoever writes it in a statement of its own; none where nothing is written down. */
    rows(facts: Facts, context = currentContext()): AuditRow[] {
      if (!isOn) return []
      const known = context ?? { request_id: newRequestId() }
      const act = actOf(known)
      act.actions.add(facts.action)
      return [toRow(facts, known, act.id)]
    },

    /** Writes rows together with the changes of a transaction. */
    writeRows,

    /** Writes down what a transaction does, if it is committed. */
    write(on: Database, facts: Facts, context?: LogContext): void {
      if (isOn) writeRows(on, this.rows(facts, context))
    },

    /** The statement of rows that go with others in one trip, and are told of by `written`. */
    insertion,

    written,

    /** Writes down, with the next batch, what had no transaction or had one that failed. */
    keep: (rows: AuditRow[]) => batch.add(rows),

    /** The same for the end of a request, which may have no other row. */
    note(facts: Facts, context: LogContext): void {
      if (isOn) batch.add([toRow(facts, context, acts.get(workOf(context))?.id)])
    },

    /** Whether an action was written down that is done in a context. */
    knows: (context: LogContext, action: Action) => acts.get(workOf(context))?.actions.has(action) === true,

    isReady,

    /**
     * To be asked before something is done that is written down.
     * @throws {Problem} `database_unavailable` or `audit_unavailable`
     */
    async requireReady(use: Use): Promise<void> {
      if (isReady(use)) return
      await tryDatabase().catch((error: unknown) => {
        const { code, message, cause } = toProblem(error)
        throw new Problem(code, `${message} ${unaudited}`, { cause })
      })
      if (!isReady(use)) throw new Problem('audit_unavailable', `Too many rows wait for the database. ${unaudited}`)
    },

    /** In order of time. What this process knows is among it, also where that has just happened. */
    async listOf(requestId: string, options: PageOptions): Promise<StoredRow[]> {
      if (db.failure() === undefined) await batch.flush()
      return listOf(db, requestId, options)
    },

    /** Rests after each step for as long as that took. */
    async removeOld(signal: AbortSignal): Promise<void> {
      const time = db.now() - config.auditRetentionDays * dayMilliseconds
      for (let more = true; more; ) {
        const begun = performance.now()
        more = await transact(db.unflushed, (trx) => removeOld(trx, time, removedAtOnce))
        if (more) await sleep(performance.now() - begun, undefined, { signal })
      }
    },

    async close(): Promise<void> {
      await batch.flush()
      batch.tellLost()
      await file?.close()
    },
  }
}

/** Who did what to which vfolder, under which request ID, and how it ended: docs/audit.md. */
export default fp(
  async (app) => {
    const { auditLogFile } = app.config
    // Loaded only where it is used.
    const file = auditLogFile && (await import('./log-file.ts')).AuditLogFile.open(auditLogFile, app.log)
    const opened = file ? await file : undefined
    const audit = createAudit(app, opened)
    app.decorate('audit', audit)
    const reopen = () => opened?.reopen()
    if (opened !== undefined) process.on('SIGHUP', reopen)
    app.addHook('onReady', async () => {
      app.schedule('remove-old-audit', removalSeconds, audit.removeOld)
    })
    app.addHook('onClose', async () => {
      process.off('SIGHUP', reopen)
      await audit.close()
    })
  },
  { name: 'audit', dependencies: ['config', 'database', 'processes', 'scheduler'] },
)
