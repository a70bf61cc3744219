import { type Kysely, PostgresAdapter, sql } from 'kysely'

const counters = ['usage_bytes', 'usage_files', 'reserved_bytes', 'reserved_files']

type Row = 'old' | 'new'

const isDeleted = (row: Row) => `${row}.state = 'deleting'`
const isUncounted = (row: Row) => `(${isDeleted(row)} or ${row}.state = 'trashed' and ${row}.trash_counts = 0)`

/**
 * Lets the row of a quota scope count along what its vfolders have and have set aside, in the same transaction. A vfolder
 * in deletion does not count any more. Its scope stays the same for as long as it lives.
 */
export async function countScopes(db: Kysely<unknown>): Promise<void> {
  const introduce = `insert into quota_scopes (scope, is_defined) select new.quota_scope, 0
    where not exists (select 1 from quota_scopes where scope = new.quota_scope)`
  const statements = isPostgres(db)
    ? [
        // Another process may introduce the same scope at the same time.
        `create function introduce_scope() returns trigger language plpgsql as
          $$ begin ${introduce} on conflict do nothing; return null; end $$`,
        `create trigger vfolder_introduces_scope after insert on vfolders for each row
          when (new.quota_scope is not null) execute function introduce_scope()`,
      ]
    : [
        `create trigger vfolder_introduces_scope after insert on vfolders when new.quota_scope is not null
          begin ${introduce}; end`,
      ]
  await run(db, [...statements, ...counting(db, isDeleted)])
}

/** The same from now on, and a vfolder in the trash counts only where its row says so. */
export async function recountScopes(db: Kysely<unknown>): Promise<void> {
  const dropping = isPostgres(db)
    ? ['drop trigger vfolder_counts_in_scope on vfolders', 'drop function count_in_scope()']
    : ['drop trigger vfolder_counts_in_scope']
  await run(db, [...dropping, ...counting(db, isUncounted)])
}

/** @param isLeftOut whether a row does not count */
function counting(db: Kysely<unknown>, isLeftOut: (row: Row) => string): string[] {
  const counted = (row: Row, counter: string) => `case when ${isLeftOut(row)} then 0 else ${row}.${counter} end`
  const changes = counters.map(
    (counter) => `${counter} = ${counter} + ${counted('new', counter)} - ${counted('old', counter)}`,
  )
  const change = `update quota_scopes set ${changes.join(', ')} where scope = new.quota_scope`
  const ofVfolder = `update of ${[...counters, 'state'].join(', ')} on vfolders`
  if (!isPostgres(db)) {
    return [
      `create trigger vfolder_counts_in_scope after ${ofVfolder} when new.quota_scope is not null
        begin ${change}; end`,
    ]
  }
  const differs = counters.map((counter) => `${counted('new', counter)} <> ${counted('old', counter)}`)
  return [
    `create function count_in_scope() returns trigger language plpgsql as $$ begin ${change}; return null; end $$`,
    `create trigger vfolder_counts_in_scope after ${ofVfolder} for each row
      when (new.quota_scope is not null and (${differs.join(' or ')}))
      execute function count_in_scope()`,
  ]
}

function isPostgres(db: Kysely<unknown>): boolean {
  return db.getExecutor().adapter instanceof PostgresAdapter
}

async function run(db: Kysely<unknown>, statements: string[]): Promise<void> {
  for (const statement of statements) await sql.raw(statement).execute(db)
}
