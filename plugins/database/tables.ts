import type { Generated } from 'kysely'

/** Rows as the database has them; times are ISO 8601 in UTC, JSON is text. */
export interface Tables {
  vfolders: {
    id: string
    volume: string
    state: 'creating' | 'ready' | 'deleting'
    quota_bytes: number | null
    quota_files: number | null
    usage_bytes: Generated<number>
    usage_files: Generated<number>
    usage_synced_at: string | null
    metadata: string
    created_at: string
  }
}
