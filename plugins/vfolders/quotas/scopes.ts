import type { Amount } from '../../../backends/backend.ts'
import { Problem } from '../../../lib/problems.ts'
import type { Database } from '../../storage/database/tables.ts'
import { findScope, type Quota, scopeUsage } from './limits.ts'

export interface QuotaScope {
  scope: string
  quota: Quota
  usage: Amount
}

/** Owners whose limits span several vfolders. */
export function createQuotaScopes(db: Database) {
  /** @throws {Problem} `quota_scope_not_found` */
  async function get(scope: string): Promise<QuotaScope> {
    const row = await findScope(db, scope)
    if (row === undefined) throw notFound(scope)
    const { usage } = await scopeUsage(db, scope)
    return { scope, quota: { bytes: row.quota_bytes, files: row.quota_files }, usage }
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

function notFound(scope: string): Problem {
  return new Problem('quota_scope_not_found', `There is no quota scope ${scope}.`)
}
