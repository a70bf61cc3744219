import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { sql } from 'kysely'
import type { Amount } from '../backends/backend.ts'
import type { Database } from './job-queue/job.ts'
import { Problem } from './problems.ts'
import { currentRequestId } from './request-id.ts'

declare module 'fastify' {
  interface FastifyInstance {
    quotas: ReturnType<typeof createQuotas>
  }
}

/** Limits; null is none. */
export interface Quota {
  bytes: number | null
  files: number | null
}

export type Reservation = Awaited<ReturnType<ReturnType<typeof createQuotas>['reserve']>>

const units = ['bytes', 'files'] as const
const nothing: Amount = Object.freeze({ bytes: 0, files: 0 })

/** How much more is asked for when what was reserved is used up: as much as there is, within these bounds. */
const smallestStep = 1024 * 1024
const largestStep = 64 * 1024 * 1024

function createQuotas({ database: db, processes, log }: FastifyInstance) {
  /**
   * Sets room aside in a vfolder, and in its scope, or refuses. Adding first and looking then takes the locks of both
   * rows, in this order, before anything is decided; a refusal undoes it.
   */
  async function add(trx: Database, vfolder: string, wanted: Amount): Promise<void> {
    const row = await trx
      .updateTable('vfolders')
      .set((eb) => ({
        reserved_bytes: eb('reserved_bytes', '+', wanted.bytes),
        reserved_files: eb('reserved_files', '+', wanted.files),
        revision: eb('revision', '+', 1),
      }))
      .where('id', '=', vfolder)
      .where('state', '!=', 'deleting')
      .returningAll()
      .executeTakeFirst()
    if (row === undefined) throw new Problem('vfolder_not_found', `There is no vfolder ${vfolder}.`)
    const usage = { bytes: row.usage_bytes, files: row.usage_files }
    const reserved = { bytes: row.reserved_bytes - wanted.bytes, files: row.reserved_files - wanted.files }
    const quota = { bytes: row.quota_bytes, files: row.quota_files }
    refuseOver({ limit: 'vfolder', name: vfolder, quota, usage, reserved, wanted })
    if (row.quota_scope !== null) await refuseOverScope(trx, row.quota_scope, wanted)
  }

  /** @throws {Problem} `quota_exceeded` when the vfolders of a scope, with `wanted` reserved in one of them, are over it */
  async function refuseOverScope(trx: Database, scope: string, wanted: Amount): Promise<void> {
    const limits = await trx
      .updateTable('quota_scopes')
      .set({ scope })
      .where('scope', '=', scope)
      .returningAll()
      .executeTakeFirst()
    if (limits === undefined) return
    const { usage, reserved } = await scopeUsage(trx, scope)
    reserved.bytes -= wanted.bytes
    reserved.files -= wanted.files
    const quota = { bytes: limits.quota_bytes, files: limits.quota_files }
    refuseOver({ limit: 'quotaScope', name: scope, quota, usage, reserved, wanted })
  }

  async function scopeUsage(on: Database, scope: string): Promise<{ usage: Amount; reserved: Amount }> {
    const sum = (column: 'usage_bytes' | 'usage_files' | 'reserved_bytes' | 'reserved_files') =>
      sql<number>`coalesce(sum(${sql.ref(column)}), 0)`
    const row = await on
      .selectFrom('vfolders')
      .select([
        sum('usage_bytes').as('usageBytes'),
        sum('usage_files').as('usageFiles'),
        sum('reserved_bytes').as('reservedBytes'),
        sum('reserved_files').as('reservedFiles'),
      ])
      .where('quota_scope', '=', scope)
      .where('state', '!=', 'deleting')
      .executeTakeFirstOrThrow()
    return {
      usage: { bytes: Number(row.usageBytes), files: Number(row.usageFiles) },
      reserved: { bytes: Number(row.reservedBytes), files: Number(row.reservedFiles) },
    }
  }

  /** How much room there is, for who takes less than wanted. */
  async function available(trx: Database, vfolder: string): Promise<Amount> {
    const row = await trx.selectFrom('vfolders').selectAll().where('id', '=', vfolder).executeTakeFirstOrThrow()
    const room = left(
      { bytes: row.quota_bytes, files: row.quota_files },
      { bytes: row.usage_bytes + row.reserved_bytes, files: row.usage_files + row.reserved_files },
    )
    const scope = row.quota_scope === null ? undefined : await getScope(trx, row.quota_scope).catch(() => undefined)
    if (scope === undefined) return room
    const { usage, reserved } = await scopeUsage(trx, scope.scope)
    const inScope = left(scope.quota, { bytes: usage.bytes + reserved.bytes, files: usage.files + reserved.files })
    return { bytes: Math.min(room.bytes, inScope.bytes), files: Math.min(room.files, inScope.files) }
  }

  async function giveBack(trx: Database, vfolder: string, amount: Amount): Promise<void> {
    await trx
      .updateTable('vfolders')
      .set((eb) => ({
        reserved_bytes: eb('reserved_bytes', '-', amount.bytes),
        reserved_files: eb('reserved_files', '-', amount.files),
        revision: eb('revision', '+', 1),
      }))
      .where('id', '=', vfolder)
      .execute()
  }

  async function getScope(on: Database, scope: string) {
    const row = await on.selectFrom('quota_scopes').selectAll().where('scope', '=', scope).executeTakeFirst()
    if (row === undefined) throw scopeNotFound(scope)
    const { usage } = await scopeUsage(on, scope)
    return { scope, quota: { bytes: row.quota_bytes, files: row.quota_files }, usage }
  }

  return {
    /**
     * Sets room aside in a vfolder that one job alone works on, and that ends with it; less when `wanted` is negative.
     * @throws {Problem} `quota_exceeded`
     */
    setAside: add,

    /** Ends what was set aside for an upload, and counts what came of it, as one with what else `trx` does. */
    async settleAside(trx: Database, vfolder: string, aside: Amount, by: Amount = nothing): Promise<void> {
      await giveBack(trx, vfolder, aside)
      if (by.bytes !== 0 || by.files !== 0) await count(trx, vfolder, by)
    },

    /**
     * Sets room aside for work on a vfolder, so that whatever runs at the same time cannot take it; with nothing wanted
     * it only tells that the usage is about to change. With `partly` what there is will do, and more is asked for when
     * it is used up. The caller must `end` what it was given.
     * @throws {Problem} `quota_exceeded` with the numbers, or `vfolder_not_found`
     */
    async reserve(vfolder: string, wanted: Amount, { partly = false } = {}) {
      const id = randomUUID()
      const held = { ...wanted }
      await db.transaction().execute(async (trx) => {
        if (partly) {
          const room = await available(trx, vfolder)
          for (const unit of units) held[unit] = Math.max(0, Math.min(wanted[unit], room[unit]))
        }
        await add(trx, vfolder, held)
        await trx
          .insertInto('reservations')
          .values({
            id,
            vfolder,
            process: processes.id,
            ...held,
            request_id: currentRequestId() ?? id,
            created_at: new Date().toISOString(),
          })
          .execute()
      })

      async function change(by: Amount): Promise<void> {
        await db.transaction().execute(async (trx) => {
          await add(trx, vfolder, by)
          await trx
            .updateTable('reservations')
            .set((eb) => ({ bytes: eb('bytes', '+', by.bytes), files: eb('files', '+', by.files) }))
            .where('id', '=', id)
            .execute()
        })
        held.bytes += by.bytes
        held.files += by.files
      }

      return {
        id,

        /** Whether `needed` is set aside. */
        covers: (needed: Amount): boolean => units.every((unit) => needed[unit] <= held[unit]),

        /** Sets more aside until `needed` is covered. @throws {Problem} `quota_exceeded` */
        async cover(needed: Amount): Promise<void> {
          const missing = {
            bytes: Math.max(0, needed.bytes - held.bytes),
            files: Math.max(0, needed.files - held.files),
          }
          const step = Math.min(largestStep, Math.max(smallestStep, held.bytes))
          if (missing.bytes > 0 && missing.bytes < step) {
            const { bytes } = await available(db, vfolder)
            missing.bytes = Math.max(missing.bytes, Math.min(step, bytes))
          }
          if (missing.bytes > 0 || missing.files > 0) await change(missing)
        },

        /** Counts what has changed on the storage, out of what was set aside as far as that goes. */
        async settle(by: Amount): Promise<void> {
          const used = { bytes: 0, files: 0 }
          for (const unit of units) used[unit] = Math.max(0, Math.min(by[unit], held[unit]))
          await db.transaction().execute(async (trx) => {
            // Gone when this process was taken for dead, and then it has been given back.
            const { numUpdatedRows } = await trx
              .updateTable('reservations')
              .set((eb) => ({ bytes: eb('bytes', '-', used.bytes), files: eb('files', '-', used.files) }))
              .where('id', '=', id)
              .executeTakeFirstOrThrow()
            if (numUpdatedRows > 0n) await giveBack(trx, vfolder, used)
            await count(trx, vfolder, by)
          })
          for (const unit of units) held[unit] -= used[unit]
        },

        /** Counts what has changed since, and gives back what was not used. */
        async end(by: Amount = nothing): Promise<void> {
          await db.transaction().execute(async (trx) => {
            await endReservation(trx, { id, vfolder })
            if (by.bytes !== 0 || by.files !== 0) await count(trx, vfolder, by)
          })
        },
      }
    },

    /** Gives back what dead processes had reserved. */
    async endAbandoned(): Promise<void> {
      const abandoned = await db
        .selectFrom('reservations')
        .selectAll()
        .where('process', 'not in', processes.alive())
        .execute()
      for (const { id, vfolder, bytes, files, request_id } of abandoned) {
        await db.transaction().execute((trx) => endReservation(trx, { id, vfolder }))
        const fields = { upload_id: id, folder: vfolder, bytes, files, origin_request_id: request_id }
        log.info(fields, 'reservation of a dead process given back')
      }
    },

    async putScope(scope: string, quota: Quota) {
      const row = { quota_bytes: quota.bytes, quota_files: quota.files }
      await db
        .insertInto('quota_scopes')
        .values({ scope, ...row })
        .onConflict((conflict) => conflict.column('scope').doUpdateSet(row))
        .execute()
      return getScope(db, scope)
    },

    /** @throws {Problem} `quota_scope_not_found` */
    getScope: (scope: string) => getScope(db, scope),

    /** Takes the limits away; the vfolders stay. @throws {Problem} `quota_scope_not_found` */
    async deleteScope(scope: string): Promise<void> {
      const { numDeletedRows } = await db
        .deleteFrom('quota_scopes')
        .where('scope', '=', scope)
        .executeTakeFirstOrThrow()
      if (numDeletedRows === 0n) throw scopeNotFound(scope)
    },
  }

  async function endReservation(trx: Database, { id, vfolder }: { id: string; vfolder: string }): Promise<void> {
    const rest = await trx.deleteFrom('reservations').where('id', '=', id).returningAll().executeTakeFirst()
    if (rest !== undefined) await giveBack(trx, vfolder, rest)
  }
}

function scopeNotFound(scope: string): Problem {
  return new Problem('quota_scope_not_found', `There is no quota scope ${scope}.`)
}

/** The counters follow what this service does; they never go below nothing when others have removed files. */
async function count(trx: Database, vfolder: string, by: Amount): Promise<void> {
  const sum = (column: 'usage_bytes' | 'usage_files', change: number) => {
    const changed = sql<number>`${sql.ref(column)} + ${change}`
    return sql<number>`case when ${changed} < 0 then 0 else ${changed} end`
  }
  await trx
    .updateTable('vfolders')
    .set((eb) => ({
      usage_bytes: sum('usage_bytes', by.bytes),
      usage_files: sum('usage_files', by.files),
      revision: eb('revision', '+', 1),
    }))
    .where('id', '=', vfolder)
    .execute()
}

function left(quota: Quota, taken: Amount): Amount {
  return {
    bytes: quota.bytes === null ? Number.POSITIVE_INFINITY : Math.max(0, quota.bytes - taken.bytes),
    files: quota.files === null ? Number.POSITIVE_INFINITY : Math.max(0, quota.files - taken.files),
  }
}

interface Claim {
  limit: 'vfolder' | 'quotaScope'
  name: string
  quota: Quota
  usage: Amount
  reserved: Amount
  wanted: Amount
}

/** What takes no room is never refused: who is over a limit must be able to get below it. */
function refuseOver({ limit, name, quota, usage, reserved, wanted }: Claim): void {
  for (const unit of units) {
    const maximum = quota[unit]
    if (maximum === null || wanted[unit] <= 0 || usage[unit] + reserved[unit] + wanted[unit] <= maximum) continue
    const numbers = { quota: maximum, usage: usage[unit], reserved: reserved[unit], wanted: wanted[unit] }
    const where = limit === 'vfolder' ? `vfolder ${name}` : `quota scope ${name}`
    const detail = `The ${where} may have ${maximum} ${unit}: ${numbers.usage} are used, ${numbers.reserved} reserved, and ${numbers.wanted} more were wanted.`
    throw new Problem('quota_exceeded', detail, { members: { limit, unit, ...numbers } })
  }
}

/** Limits of vfolders and of their owners, which hold whatever happens at the same time. */
export default fp(
  async (app) => {
    app.decorate('quotas', createQuotas(app))
  },
  { name: 'quotas', dependencies: ['database', 'processes'] },
)
