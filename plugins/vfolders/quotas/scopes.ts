import type { FastifyInstance } from 'fastify'
import { type Expression, type SqlBool, sql } from 'kysely'
import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'
import { transact } from '../../storage/database/transact.ts'
import { asDouble, mostCounted, type Quota } from '../rows.ts'

export interface QuotaScope {
  scope: string
  quota: Quota
  usage: Amount
}

/** Owners whose limits span several vfolders. `onChanged` is called after their limits were. */
export function createQuotaScopes(
  { database: db, audit }: Pick<FastifyInstance, 'database' | 'audit'>,
  onChanged: (scope: string) => Promise<void>,
) {
  /** @throws {Problem} `quota_scope_not_found` */
  async function get(scope: string): Promise<QuotaScope> {
    const found = await findScope(db, scope)
    if (!found?.isDefined) throw notFound(scope)
    const { quota, usage } = found
    return { scope, quota, usage }
  }

  return {
    get,

    /** The same, also of one that has no limits from anybody, but vfolders. @throws {Problem} `quota_scope_not_found` */
    async getNamed(scope: string): Promise<QuotaScope> {
      const found = await findScope(db, scope)
      if (found === undefined) throw notFound(scope)
      const { quota, usage } = found
      return { scope, quota, usage }
    },

    async put(scope: string, quota: Quota): Promise<QuotaScope> {
      const row = { quota_bytes: quota.bytes, quota_files: quota.files, is_defined: 1 }
      await transact(db, async (trx) => {
        await trx
          .insertInto('quota_scopes')
          .values({ scope, ...row })
          .onConflict((conflict) => conflict.column('scope').doUpdateSet(row))
          .execute()
        audit.write(trx, { action: 'quota-scope.set', subject: scope })
      })
      await onChanged(scope)
      return get(scope)
    },

    /** The same where nobody has given it limits. @returns whether it was so */
    async add(scope: string, quota: Quota): Promise<boolean> {
      const row = { quota_bytes: quota.bytes, quota_files: quota.files, is_defined: 1 }
      const isNew = await transact(db, async (trx) => {
        const { numInsertedOrUpdatedRows } = await trx
          .insertInto('quota_scopes')
          .values({ scope, ...row })
          .onConflict((conflict) => conflict.column('scope').doUpdateSet(row).where('quota_scopes.is_defined', '=', 0))
          .executeTakeFirstOrThrow()
        if (numInsertedOrUpdatedRows !== 1n) return false
        audit.write(trx, { action: 'quota-scope.set', subject: scope })
        return true
      })
      if (isNew) await onChanged(scope)
      return isNew
    },

    /** Changes one that is there, if only because vfolders are in it. @throws {Problem} `quota_scope_not_found` */
    async change(scope: string, { bytes }: Pick<Quota, 'bytes'>): Promise<void> {
      await transact(db, async (trx) => {
        const { numUpdatedRows } = await trx
          .updateTable('quota_scopes')
          .set({ quota_bytes: bytes, is_defined: 1 })
          .where('scope', '=', scope)
          .executeTakeFirstOrThrow()
        if (numUpdatedRows === 0n) throw notFound(scope)
        audit.write(trx, { action: 'quota-scope.set', subject: scope })
      })
      await onChanged(scope)
    },

    /** Takes the limits away; the vfolders stay. @throws {Problem} `quota_scope_not_found` */
    async delete(scope: string): Promise<void> {
      await transact(db, async (trx) => {
        const { numUpdatedRows } = await trx
          .updateTable('quota_scopes')
          .set({ quota_bytes: null, quota_files: null, is_defined: 0 })
          .where('scope', '=', scope)
          .where('is_defined', '=', 1)
          .executeTakeFirstOrThrow()
        if (numUpdatedRows === 0n) throw notFound(scope)
        audit.write(trx, { action: 'quota-scope.delete', subject: scope })
      })
      await onChanged(scope)
    },
  }
}

/** What a scope may have, has, and has set aside. */
export interface ScopeCounters {
  /** Whether somebody has given it limits. */
  isDefined: boolean
  quota: Quota
  usage: Amount
  reserved: Amount
}

/** Undefined where no vfolder has ever named the scope; with `lock` nobody else changes it before `on` ends. */
export async function findScope(on: Database, scope: string, lock = false): Promise<ScopeCounters | undefined> {
  const query = on
    .selectFrom('quota_scopes')
    .select([
      'is_defined',
      'quota_bytes',
      'quota_files',
      asDouble('usage_bytes').as('usage_bytes'),
      asDouble('usage_files').as('usage_files'),
      asDouble('reserved_bytes').as('reserved_bytes'),
      asDouble('reserved_files').as('reserved_files'),
    ])
    .where('scope', '=', scope)
  const row = await (lock ? query.forUpdate() : query).executeTakeFirst()
  return (
    row && {
      isDefined: row.is_defined === 1,
      quota: { bytes: row.quota_bytes, files: row.quota_files },
      usage: { bytes: row.usage_bytes, files: row.usage_files },
      reserved: { bytes: row.reserved_bytes, files: row.reserved_files },
    }
  )
}

function notFound(scope: string): Problem {
  return new Problem('quota_scope_not_found', `There is no quota scope ${scope}.`)
}

/** Whether the scope of a vfolder, if it has one, has room for so much more: a condition of a statement on `vfolders`. */
export function hasRoomInScope(unit: keyof Amount, growth: number): Expression<SqlBool> {
  const counted = sql`${sql.ref(`usage_${unit}`)} + ${sql.ref(`reserved_${unit}`)} + ${growth}`
  const limit = sql`coalesce(${sql.ref(`quota_${unit}`)}, ${mostCounted})`
  return sql<SqlBool>`not exists (select 1 from quota_scopes where scope = vfolders.quota_scope and ${counted} > ${limit})`
}
