import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
const database = 'plugins/storage/database/'

/** The one file or folder that has the statements on a table. */
const owners: Record<string, string> = {
  vfolders: 'plugins/vfolders/rows.ts',
  quota_scopes: 'plugins/vfolders/quotas/scopes.ts',
  trashed_entries: 'plugins/vfolders/trash/rows.ts',
  reservations: 'plugins/vfolders/quotas/',
  uploads: 'plugins/vfolders/uploads/',
  audit: 'plugins/work/audit/rows.ts',
  jobs: 'plugins/work/job-queue/',
  job_attempts: 'plugins/work/job-queue/attempts.ts',
  processes: 'plugins/work/processes.ts',
  generated_secrets: 'plugins/work/shared-secrets.ts',
  task_leases: 'plugins/work/scheduler.ts',
  events: 'plugins/work/events/',
  event_positions: 'plugins/work/events/outbox.ts',
  event_targets: 'plugins/work/events/targets.ts',
  unwell_volumes: 'plugins/work/events/volume-health.ts',
  quota_warnings: 'plugins/vfolders/quotas/warnings.ts',
  event_letters: 'plugins/work/events/letters.ts',
  database_identity: 'plugins/storage/identity-rows.ts',
  volumes: 'plugins/storage/identity-rows.ts',
  volume_epochs: 'plugins/storage/identity-rows.ts',
  folder_numbers: 'plugins/storage/folder-numbers.ts',
  last_folder_number: 'plugins/storage/folder-numbers.ts',
}

/** Those of the database's own folder. */
const own = ['notifications']

/** The calls of Kysely that name tables, and the words of SQL, where a name may be put in. */
const calls =
  /\b(?:selectFrom|insertInto|replaceInto|mergeInto|updateTable|deleteFrom|using|\w+Join|\w+JoinLateral)\(\s*(?:'(\w+))?/g
const words = /\b(?:from|join|into|update)\s+(?:"?(\w+))?/g

/** The tables that the statements of a source are about; undefined for one whose name does not stand there. */
function tablesIn(text: string): (string | undefined)[] {
  const queries = [...text.matchAll(/\bsql(?:<[^`]*>)?`([^`]*)`/g)].map(([, query]) => query!.toLowerCase())
  const found = [...text.matchAll(calls), ...queries.flatMap((query) => [...query.matchAll(words)])]
  return found.map(([, table]) => table)
}

const sources = globSync(['*.ts', '{lib,plugins,jobs,routes,backends,exports}/**/*.ts'], { cwd: root })
  .filter((file) => !file.startsWith(database))
  .map((file) => ({ file, tables: tablesIn(readFileSync(join(root, file), 'utf8')) }))

t.test('each table has an owner', async (t) => {
  const text = readFileSync(join(root, database, 'migrations.ts'), 'utf8')
  const tables = [...text.matchAll(/createTable\('(\w+)'\)/g)].map(([, table]) => table)
  t.same(tables.toSorted(), [...Object.keys(owners), ...own].toSorted())
})

t.test('no statement on a table stands outside of its owner', async (t) => {
  for (const { file, tables } of sources) {
    for (const table of tables) t.ok(table && file.startsWith(owners[table] ?? '-'), `${file} speaks to ${table}`)
  }
})

t.test('each transaction is run again when it has to give way', async (t) => {
  for (const { file } of sources) {
    const text = readFileSync(join(root, file), 'utf8')
    t.notMatch(text, /\.(transaction|startTransaction)\(/, `${file} uses transact`)
  }
})

t.test('each owner speaks to its table', async (t) => {
  for (const [table, owner] of Object.entries(owners)) {
    t.ok(
      sources.some(({ file, tables }) => file.startsWith(owner) && tables.includes(table)),
      `${owner} of ${table}`,
    )
  }
})

t.test('a statement is found however it is written', async (t) => {
  t.same(tablesIn("db.selectFrom('jobs as other').innerJoin(\n  'uploads', 'a', 'b')"), ['jobs', 'uploads'])
  t.same(tablesIn('sql<number>`(select count(*) from jobs)`'), ['jobs'])
  t.same(tablesIn('trx.updateTable(name).set({})'), [undefined])
})
