import { type Kysely, PostgresAdapter, sql } from 'kysely'

const counters = ['usage_bytes', 'usage_files', 'reserved_bytes', 'reserved_files']

/**
 * Lets the row of a quota scope count along what its vfolders have and have set aside, in the same transaction. A vfolder
 * in deletion does not count any more. Its scope stays the same for as long as it lives.
 */
export async function countScopes(db: Kysely<unknown>): Promise<void> {
  const counted = (row: 'old' | 'new', counter: string) =>
    `case when ${row}.state = 'deleting' then 0 else ${row}.${counter} end`
  const changes = counters.map(
    (counter) => `${counter} = ${counter} + ${counted('new', counter)} - ${counted('old', counter)}`,
  )
  const introduce = `insert into quota_scopes (scope, is_defined) select new.quota_scope, 0
    where not exists (select 1 from quota_scopes where scope = new.quota_scope)`
  const change = `update quota_scopes set ${changes.join(', ')} where scope = new.quota_scope`
  const ofVfolder = `update of ${[...counters, 'state'].join(', ')} on vfolders`
  const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter
  const statements = isPostgres
    ? [
        // Another process may introduce the same scope at the same time.
        `create function introduce_scope() returns trigger language plpgsql as
          $$ begin ${introduce} on conflict do nothing; return null; end $$`,
        `create function count_in_scope() returns trigger language plpgsql as $$ begin ${change}; return null; end $$`,
        `create trigger vfolder_introduces_scope after insert on vfolders for each row
          when (new.quota_scope is not null) execute function introduce_scope()`,
        `create trigger vfolder_counts_in_scope after ${ofVfolder} for each row
          when (new.quota_scope is not null and (${counters.map((counter) => `${counted('new', counter)} <> ${counted('old', counter)}`).join(' or ')}))
          execute function count_in_scope()`,
      ]
    : [
        `create trigger vfolder_introduces_scope after insert on vfolders when new.quota_scope is not null
          begin ${introduce}; end`,
        `create trigger vfolder_counts_in_scope after ${ofVfolder} when new.quota_scope is not null
          begin ${change}; end`,
      ]
  for (const statement of statements) await sql.raw(statement).execute(db)
}
