import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Database, Tables } from '../../storage/database/tables.ts'
import { type Quota, sumOfScope } from '../rows.ts'

export interface QuotaScope {
  scope: string
  quota: Quota
  usage: Amount
}

/** Owners whose limits span several vfolders. */
export function createQuotaScopes(db: Database) {
  /** @throws {Problem} `quota_scope_not_found` */
  async function get(scope: string): Promise<QuotaScope> {
    const quota = await findScope(db, scope)
    if (quota === undefined) throw notFound(scope)
    const { usage } = await sumOfScope(db, scope)
    return { scope, quota, usage }
  }

  return {
    get,

    async put(scope: string, quota: Quota): Promise<QuotaScope> {
      const row = { quota_bytes: quota.bytes, quota_files: quota.files }
      await db
        .insertInto('quota_scopes')
        .values({ scope, ...row })
        .onConflict((conflict) => conflict.column('scope').doUpdateSet(row))
        .execute()
      return get(scope)
    },

    /** Takes the limits away; the vfolders stay. @throws {Problem} `quota_scope_not_found` */
    async delete(scope: string): Promise<void> {
      const { numDeletedRows } = await db
        .deleteFrom('quota_scopes')
        .where('scope', '=', scope)
        .executeTakeFirstOrThrow()
      if (numDeletedRows === 0n) throw notFound(scope)
    },
  }
}

/** The limits of a scope. */
export async function findScope(on: Database, scope: string): Promise<Quota | undefined> {
  const row = await on.selectFrom('quota_scopes').selectAll().where('scope', '=', scope).executeTakeFirst()
  return row && toQuota(row)
}

/** The same, and keeps them as they are until the transaction ends. */
export async function holdScope(trx: Database, scope: string): Promise<Quota | undefined> {
  const update = trx.updateTable('quota_scopes').set({ scope }).where('scope', '=', scope)
  const row = await update.returningAll().executeTakeFirst()
  return row && toQuota(row)
}

function toQuota(row: Tables['quota_scopes']): Quota {
  return { bytes: row.quota_bytes, files: row.quota_files }
}

function notFound(scope: string): Problem {
  return new Problem('quota_scope_not_found', `There is no quota scope ${scope}.`)
}
