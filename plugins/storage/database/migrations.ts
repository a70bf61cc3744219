import { randomUUID } from 'node:crypto'
import { type Migration, PostgresAdapter, sql } from 'kysely'
import { countScopes, recountScopes } from './scope-counters.ts'

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
  '002-background-work': {
    async up(db) {
      await db.schema
        .createTable('processes')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('beat', 'bigint', (column) => column.notNull())
        .execute()
      await db.schema
        .createTable('task_leases')
        .addColumn('task', 'text', (column) => column.primaryKey())
        .addColumn('process', 'text', (column) => column.notNull())
        .execute()

      await db.schema
        .createTable('jobs')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('vfolder', 'text')
        .addColumn('payload', 'text', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('request_id', 'text', (column) => column.notNull())
        .addColumn('trace_id', 'text')
        .addColumn('process', 'text')
        .addColumn('attempts', 'integer', (column) => column.notNull().defaultTo(0))
        .addColumn('failures', 'integer', (column) => column.notNull().defaultTo(0))
        .addColumn('due_at', 'bigint', (column) => column.notNull())
        .addColumn('cancel_requested', 'integer', (column) => column.notNull().defaultTo(0))
        .addColumn('checkpoint', 'text')
        .addColumn('files_done', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('files_total', 'bigint')
        .addColumn('bytes_done', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('bytes_total', 'bigint')
        .addColumn('result', 'text')
        .addColumn('error', 'text')
        .addColumn('version', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('created_at', 'text', (column) => column.notNull())
        .addColumn('started_at', 'text')
        .addColumn('finished_at', 'text')
        .execute()
      await db.schema.createIndex('jobs_state').on('jobs').columns(['state', 'kind', 'due_at']).execute()
      await db.schema.createIndex('jobs_vfolder').on('jobs').columns(['vfolder']).execute()
      await db.schema.createIndex('jobs_created').on('jobs').columns(['created_at', 'id']).execute()

      await db.schema
        .createTable('quota_scopes')
        .addColumn('scope', 'text', (column) => column.primaryKey())
        .addColumn('quota_bytes', 'bigint')
        .addColumn('quota_files', 'bigint')
        .execute()
      await db.schema.alterTable('vfolders').addColumn('quota_scope', 'text').execute()
      for (const column of ['reserved_bytes', 'reserved_files', 'revision']) {
        await db.schema
          .alterTable('vfolders')
          .addColumn(column, 'bigint', (definition) => definition.notNull().defaultTo(0))
          .execute()
      }
      await db.schema.createIndex('vfolders_quota_scope').on('vfolders').columns(['quota_scope']).execute()
      await db.schema
        .createTable('reservations')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('vfolder', 'text', (column) => column.notNull())
        .addColumn('process', 'text', (column) => column.notNull())
        .addColumn('bytes', 'bigint', (column) => column.notNull())
        .addColumn('files', 'bigint', (column) => column.notNull())
        .addColumn('request_id', 'text', (column) => column.notNull())
        .addColumn('created_at', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('reservations_vfolder').on('reservations').columns(['vfolder']).execute()
    },
  },
  '003-uploads': {
    async up(db) {
      await db.schema
        .createTable('uploads')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('vfolder', 'text', (column) => column.notNull())
        .addColumn('path', 'text', (column) => column.notNull())
        .addColumn('token_hash', 'text', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('kind', 'text', (column) => column.notNull())
        .addColumn('size', 'bigint')
        .addColumn('offset', 'bigint', (column) => column.notNull())
        .addColumn('max_bytes', 'bigint', (column) => column.notNull())
        .addColumn('reserved_bytes', 'bigint', (column) => column.notNull())
        .addColumn('reserved_files', 'bigint', (column) => column.notNull())
        .addColumn('replaced_bytes', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('replaced_files', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('metadata', 'text')
        .addColumn('parts', 'text')
        .addColumn('sha256', 'text')
        .addColumn('process', 'text')
        .addColumn('wanted', 'integer', (column) => column.notNull().defaultTo(0))
        .addColumn('request_id', 'text', (column) => column.notNull())
        .addColumn('origin_request_id', 'text', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addColumn('created_at', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('uploads_vfolder').on('uploads').columns(['vfolder']).execute()
      await db.schema.createIndex('uploads_expires').on('uploads').columns(['expires_at']).execute()
    },
  },
  '004-final-uploads': {
    async up(db) {
      await db.schema.alterTable('uploads').addColumn('final', 'text').execute()
      await db.schema.createIndex('uploads_final').on('uploads').columns(['final']).execute()
    },
  },
  '005-order-of-jobs': {
    async up(db) {
      await db.schema
        .alterTable('jobs')
        .addColumn('sequence', 'bigint', (column) => column.notNull().defaultTo(0))
        .execute()
      const earlier = sql`(select count(*) from jobs as other where other.created_at <= jobs.created_at)`
      await sql`update jobs set sequence = ${earlier}`.execute(db)
      await db.schema.createIndex('jobs_sequence').on('jobs').columns(['sequence']).execute()
    },
  },
  '006-upload-rates': {
    async up(db) {
      await db.schema.alterTable('uploads').addColumn('bytes_per_second', 'bigint').execute()
      await db.schema.alterTable('uploads').addColumn('rate_key', 'text').execute()
    },
  },
  '007-clone-jobs': {
    async up(db) {
      await db.schema.alterTable('vfolders').addColumn('clone_job', 'text').execute()
    },
  },
  '008-identities': {
    async up(db) {
      await db.schema
        .createTable('database_identity')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .execute()
      await sql`insert into database_identity (id) values (${randomUUID()})`.execute(db)
      await db.schema
        .createTable('volumes')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('identity', 'text')
        .addColumn('is_marked', 'integer', (column) => column.notNull().defaultTo(0))
        .execute()
      await sql`insert into volumes (name) select distinct volume from vfolders`.execute(db)
      await db.schema
        .createTable('volume_epochs')
        .addColumn('epoch', 'text', (column) => column.primaryKey())
        .addColumn('volume', 'text', (column) => column.notNull())
        .addColumn('created_at', 'bigint', (column) => column.notNull())
        .execute()
      await db.schema
        .createIndex('volume_epochs_volume')
        .on('volume_epochs')
        .columns(['volume', 'created_at'])
        .execute()
    },
  },
  '009-upload-counts': {
    async up(db) {
      await db.schema.alterTable('uploads').renameColumn('rate_key', 'url_key').execute()
      await db.schema.createIndex('uploads_url').on('uploads').columns(['url_key', 'state']).execute()
    },
  },
  '010-committed-jobs': {
    async up(db) {
      await db.schema
        .alterTable('jobs')
        .addColumn('committed', 'integer', (column) => column.notNull().defaultTo(0))
        .execute()
    },
  },
  '011-many-machines': {
    async up(db) {
      if (db.getExecutor().adapter instanceof PostgresAdapter) await sql`create sequence job_order`.execute(db)
      // Which volumes a process needs to run the job; null: whichever it has.
      for (const column of ['volume', 'source_volume']) {
        await db.schema.alterTable('jobs').addColumn(column, 'text').execute()
      }
      await sql`update jobs set volume = (select volume from vfolders where vfolders.id = jobs.vfolder)`.execute(db)
      for (const column of ['signing_keys', 'volumes']) {
        await db.schema
          .alterTable('processes')
          .addColumn(column, 'text', (definition) => definition.notNull().defaultTo('[]'))
          .execute()
      }
      await db.schema
        .createTable('generated_secrets')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('digest', 'text', (column) => column.notNull())
        .execute()
    },
  },
  '012-scope-counters': {
    async up(db) {
      const table = db.schema.alterTable('quota_scopes')
      await table.addColumn('is_defined', 'integer', (column) => column.notNull().defaultTo(1)).execute()
      for (const column of ['usage_bytes', 'usage_files', 'reserved_bytes', 'reserved_files']) {
        await table.addColumn(column, 'bigint', (definition) => definition.notNull().defaultTo(0)).execute()
      }
      const scopes = sql`select distinct quota_scope, 0 from vfolders where quota_scope is not null`
      const known = sql`select scope from quota_scopes`
      await sql`insert into quota_scopes (scope, is_defined) ${scopes} and quota_scope not in (${known})`.execute(db)
      for (const column of ['usage_bytes', 'usage_files', 'reserved_bytes', 'reserved_files']) {
        const ofScope = sql`from vfolders where quota_scope = quota_scopes.scope and state <> 'deleting'`
        const sum = sql`(select coalesce(sum(vfolders.${sql.ref(column)}), 0) ${ofScope})`
        await sql`update quota_scopes set ${sql.ref(column)} = ${sum}`.execute(db)
      }
      await countScopes(db)
    },
  },
  '013-notifications': {
    async up(db) {
      // Few rows of many: the jobs to come of a kind in their order, and the uploads that somebody waits for.
      await sql`create index jobs_unended on jobs (kind, sequence) where finished_at is null`.execute(db)
      await sql`create index uploads_wanted on uploads (process) where wanted = 1`.execute(db)
      await db.schema.dropIndex('jobs_state').execute()
      await db.schema.createIndex('jobs_listed').on('jobs').columns(['state', 'created_at', 'id']).execute()
      if (db.getExecutor().adapter instanceof PostgresAdapter) {
        // A claim could be led along all jobs that have ended. SQLite finds the largest sequence by it.
        await db.schema.dropIndex('jobs_sequence').execute()
        return
      }
      await db.schema
        .createTable('notifications')
        .addColumn('sequence', 'integer', (column) => column.primaryKey())
        .addColumn('message', 'text', (column) => column.notNull())
        .execute()
      const latest = sql`delete from notifications where sequence <= new.sequence - 1000`
      await sql`create trigger notifications_kept after insert on notifications begin ${latest}; end`.execute(db)
    },
  },
  '014-trash': {
    async up(db) {
      await db.schema.alterTable('vfolders').addColumn('trashed_at', 'bigint').execute()
      await db.schema.alterTable('vfolders').addColumn('trashed_by', 'text').execute()
      await db.schema
        .alterTable('vfolders')
        .addColumn('trash_counts', 'integer', (column) => column.notNull().defaultTo(1))
        .execute()
      await sql`create index vfolders_trashed on vfolders (trashed_at) where trashed_at is not null`.execute(db)
      await recountScopes(db)

      await db.schema
        .createTable('trashed_entries')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('vfolder', 'text', (column) => column.notNull())
        .addColumn('path', 'text', (column) => column.notNull())
        .addColumn('target', 'text')
        .addColumn('type', 'text', (column) => column.notNull())
        .addColumn('bytes', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('files', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('counts', 'integer', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('process', 'text')
        .addColumn('request_id', 'text', (column) => column.notNull())
        .addColumn('deleted_at', 'bigint', (column) => column.notNull())
        .addColumn('changed_at', 'bigint', (column) => column.notNull())
        .execute()
      const table = db.schema.createIndex('trashed_entries_listed').on('trashed_entries')
      await table.columns(['vfolder', 'deleted_at', 'id']).execute()
      await db.schema.createIndex('trashed_entries_due').on('trashed_entries').columns(['deleted_at']).execute()
      // Few rows of many.
      await sql`create index trashed_entries_moving on trashed_entries (state) where state <> 'kept'`.execute(db)
    },
  },
  '015-folder-numbers': {
    async up(db) {
      await db.schema
        .createTable('folder_numbers')
        .addColumn('volume', 'text', (column) => column.notNull())
        .addColumn('folder', 'text', (column) => column.notNull())
        .addColumn('number', 'bigint', (column) => column.notNull().unique())
        .addPrimaryKeyConstraint('folder_numbers_key', ['volume', 'folder'])
        .execute()
      await db.schema
        .createTable('last_folder_number')
        .addColumn('number', 'bigint', (column) => column.notNull())
        .execute()
      await sql`insert into last_folder_number (number) values (0)`.execute(db)
    },
  },
  '016-job-attempts': {
    async up(db) {
      await db.schema
        .createTable('job_attempts')
        .addColumn('job', 'text', (column) => column.notNull())
        .addColumn('number', 'integer', (column) => column.notNull())
        .addColumn('process', 'text', (column) => column.notNull())
        .addColumn('started_at', 'text', (column) => column.notNull())
        .addColumn('ended_at', 'text')
        .addColumn('outcome', 'text')
        .addColumn('error', 'text')
        .addPrimaryKeyConstraint('job_attempts_key', ['job', 'number'])
        .execute()
      await db.schema.alterTable('jobs').addColumn('queued_again_at', 'text').execute()
      await db.schema.createIndex('jobs_counted').on('jobs').columns(['kind', 'state']).execute()
    },
  },
  '017-events': {
    async up(db) {
      const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter
      await db.schema
        .createTable('events')
        .addColumn('number', isPostgres ? 'bigserial' : 'integer', (column) => column.primaryKey())
        .addColumn('position', 'bigint')
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('type', 'text', (column) => column.notNull())
        .addColumn('vfolder', 'text')
        .addColumn('volume', 'text')
        .addColumn('request_id', 'text', (column) => column.notNull())
        .addColumn('time', 'bigint', (column) => column.notNull())
        .addColumn('data', 'text', (column) => column.notNull())
        .execute()
      await db.schema.createIndex('events_position').on('events').columns(['position']).unique().execute()
      // Few rows of many.
      await sql`create index events_unplaced on events (number) where position is null`.execute(db)
      await db.schema
        .createTable('event_positions')
        .addColumn('last', 'bigint', (column) => column.notNull())
        .addColumn('forgotten', 'bigint', (column) => column.notNull())
        .execute()
      await sql`insert into event_positions (last, forgotten) values (0, 0)`.execute(db)
      await db.schema
        .createTable('event_targets')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('position', 'bigint', (column) => column.notNull())
        .addColumn('process', 'text')
        .addColumn('failures', 'integer', (column) => column.notNull().defaultTo(0))
        .addColumn('due_at', 'bigint', (column) => column.notNull().defaultTo(0))
        .addColumn('failing_since', 'bigint')
        .addColumn('error', 'text')
        .execute()
      await db.schema
        .createTable('event_letters')
        .addColumn('target', 'text', (column) => column.notNull())
        .addColumn('position', 'bigint', (column) => column.notNull())
        .addColumn('lane', 'text', (column) => column.notNull())
        .addColumn('state', 'text', (column) => column.notNull())
        .addColumn('attempts', 'integer', (column) => column.notNull())
        .addColumn('due_at', 'bigint', (column) => column.notNull())
        .addColumn('error', 'text')
        .addPrimaryKeyConstraint('event_letters_key', ['target', 'position'])
        .execute()
      const letters = db.schema.createIndex('event_letters_lanes').on('event_letters')
      await letters.columns(['target', 'state', 'lane', 'position']).execute()
      await db.schema
        .createTable('unwell_volumes')
        .addColumn('volume', 'text', (column) => column.notNull())
        .addColumn('process', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('unwell_volumes_key', ['volume', 'process'])
        .execute()
      await db.schema
        .createTable('quota_warnings')
        .addColumn('subject', 'text', (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('unit', 'text', (column) => column.notNull())
        .addPrimaryKeyConstraint('quota_warnings_key', ['subject', 'name', 'unit'])
        .execute()
    },
  },
  '018-audit': {
    async up(db) {
      const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter
      await db.schema
        .createTable('audit')
        .addColumn('sequence', isPostgres ? 'bigserial' : 'integer', (column) => column.primaryKey())
        .addColumn('time', 'bigint', (column) => column.notNull())
        .addColumn('request_id', 'text', (column) => column.notNull())
        .addColumn('origin_request_id', 'text')
        .addColumn('act', 'text')
        .addColumn('actor', 'text', (column) => column.notNull())
        .addColumn('action', 'text', (column) => column.notNull())
        .addColumn('volume', 'text')
        .addColumn('vfolder', 'text')
        .addColumn('path', 'text')
        .addColumn('count', 'bigint')
        .addColumn('bytes', 'bigint')
        .addColumn('outcome', 'text', (column) => column.notNull())
        .addColumn('code', 'text')
        .addColumn('subject', 'text')
        .addColumn('process', 'text')
        .execute()
      await db.schema.createIndex('audit_time').on('audit').columns(['time']).execute()
      await db.schema.createIndex('audit_request').on('audit').columns(['request_id', 'time', 'sequence']).execute()
      const hasOrigin = sql`where origin_request_id is not null`
      await sql`create index audit_origin on audit (origin_request_id, time, sequence) ${hasOrigin}`.execute(db)
      await db.schema.createIndex('jobs_request').on('jobs').columns(['request_id']).execute()
    },
  },
  '019-job-traceparent': {
    async up(db) {
      await db.schema.alterTable('jobs').addColumn('traceparent', 'text').execute()
    },
  },
  '020-event-origin': {
    async up(db) {
      await db.schema.alterTable('events').addColumn('origin_request_id', 'text').execute()
    },
  },
  '021-names-of-uploads': {
    async up(db) {
      await db.schema.alterTable('uploads').addColumn('named_until', 'bigint').execute()
    },
  },
  '022-event-traceparent': {
    async up(db) {
      await db.schema.alterTable('events').addColumn('traceparent', 'text').execute()
    },
  },
}
