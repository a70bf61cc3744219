import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { OpenFiles, requireOwn } from './sqlite-files.ts'
import type { Connection, FromThread, Statement, ToThread } from './sqlite-messages.ts'

const { file, openingMilliseconds }: { file: string; openingMilliseconds: number } = workerData

interface Open {
  database: DatabaseSync
  prepared: Map<string, { statement: StatementSync; givesRows: boolean }>
  flushes: boolean | undefined
}

const connections = new Map<Connection, Open>()
let files: OpenFiles | undefined

parentPort?.on('message', (question: ToThread | 'close') => {
  if (question === 'close') close()
  else parentPort?.postMessage(answer(question))
})

function answer(question: ToThread): FromThread {
  try {
    if (question.kind === 'all')
      return { kind: 'changed', rows: changeAll(question.statements, question.flushes) ? 1 : 0 }
    if (question.kind === 'last') return commitWith(question.statement)
    const { connection, flushes, ...statement } = question
    const open = connections.get(connection) ?? connect(connection)
    if (flushes !== undefined) prepareChange(open, flushes)
    return execute(open, statement)
  } catch (error) {
    if (!(error instanceof Error)) throw error
    const errcode = 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : undefined
    return { kind: 'failed', message: error.message, errcode }
  }
}

function execute(open: Open, { sql, parameters, rows }: Statement): FromThread {
  const { statement, givesRows } = open.prepared.get(sql) ?? prepare(open, sql)
  if (rows !== undefined) return { kind: 'changed', rows: runForEach(statement, rows) }
  if (givesRows) return { kind: 'rows', rows: statement.all(...parameters) }
  return { kind: 'changed', rows: Number(statement.run(...parameters).changes) }
}

function runForEach(statement: StatementSync, text: string): number {
  const rows: SQLInputValue[][] = JSON.parse(text)
  for (const row of rows) statement.run(...row)
  return rows.length
}

function changeAll(statements: Statement[], flushes: boolean): boolean {
  const open = connections.get('writer') ?? connect('writer')
  prepareChange(open, flushes)
  const end = (sql: string) => execute(open, { sql, parameters: [] })
  end('begin immediate')
  try {
    for (const statement of statements) {
      const outcome = execute(open, statement)
      if (outcome.kind === 'changed' && outcome.rows > 0) continue
      end('rollback')
      return false
    }
    end('commit')
    return true
  } catch (error) {
    // SQLite ends a transaction by itself after some errors, so this may fail, and the first cause is told.
    if (open.database.isTransaction) end('rollback')
    throw error
  }
}

function commitWith(statement: Statement): FromThread {
  const open = connections.get('writer') ?? connect('writer')
  execute(open, statement)
  return execute(open, { sql: 'commit', parameters: [] })
}

function prepare({ database, prepared }: Open, sql: string) {
  const statement = database.prepare(sql)
  const one = { statement, givesRows: statement.columns().length > 0 }
  prepared.set(sql, one)
  return one
}

/** Before a transaction: what it commits must be in the file that others find. */
function prepareChange(open: Open, flushes: boolean): void {
  files?.requireUntouched()
  setFlushes(open, flushes)
}

/** In WAL mode only FULL makes a commit survive a power cut (sqlite.org/pragma.html#pragma_synchronous). */
function setFlushes(open: Open, flushes: boolean): void {
  if (open.flushes === flushes) return
  open.database.exec(`PRAGMA synchronous = ${flushes ? 'FULL' : 'NORMAL'}`)
  open.flushes = flushes
}

function connect(connection: Connection): Open {
  const database = new DatabaseSync(file, { timeout: openingMilliseconds })
  try {
    requireOwn(database)
    database.exec('PRAGMA journal_mode = WAL')
    database.exec('PRAGMA foreign_keys = ON')
    // A file that may not be written to is opened for reading only, which would show at the first change.
    database.exec('PRAGMA user_version = 0')
    // Those who only read must not wait behind a statement that waits for a lock; `SqliteDriver` waits instead.
    database.exec('PRAGMA busy_timeout = 0')
  } catch (error) {
    database.close()
    throw error
  }
  const open = { database, prepared: new Map(), flushes: undefined }
  connections.set(connection, open)
  files ??= new OpenFiles(file)
  return open
}

function close(): void {
  for (const { database } of connections.values()) database.close()
  parentPort?.close()
}
