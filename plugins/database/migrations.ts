import type { Migration } from 'kysely'

/** In order, each applied once. A migration that was released is never changed; another one follows it. */
export const migrations: Record<string, Migration> = {
  '001-vfolders': {
    async up(db) {
      await db.schema
        .createTable('vfolders')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('volume', 'text', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('quota_bytes', 'bigint')
        .addColumn('quota_files', 'bigint')
        .addColumn('usage_bytes', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('usage_files', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('usage_synced_at', 'text')
        .addColumn('metadata', 'text', (column) => column.notNull())
        .addColumn('created_at', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('vfolders_volume').on('vfolders').columns(['volume', 'id']).execute()
    },
  },
}
