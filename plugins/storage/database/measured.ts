import {
  DeleteQueryNode,
  type Dialect,
  type Driver,
  InsertQueryNode,
  type LogEvent,
  SelectQueryNode,
  UpdateQueryNode,
} from 'kysely'
import type { Engine } from './engine.ts'
import { committed, type StatementKind, statementEnded } from './notices.ts'

/** Tells how long each commit takes. */
export function measured(engine: Engine): Engine {
  const { changeAll } = engine
  return {
    ...engine,
    dialect: withCommits(engine.dialect, true),
    unflushed: withCommits(engine.unflushed, false),
    ...(changeAll && {
      async changeAll(queries, flushes = false) {
        const begun = performance.now()
        const changed = await changeAll(queries, flushes)
        if (changed) tellCommit(flushes, begun)
        return changed
      },
    }),
  }
}

function withCommits(dialect: Dialect, flushed: boolean): Dialect {
  return {
    createDriver: () => timingCommits(dialect.createDriver(), flushed),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createAdapter: () => dialect.createAdapter(),
    createIntrospector: (db) => dialect.createIntrospector(db),
  }
}

function timingCommits(driver: Driver, flushed: boolean): Driver {
  return {
    init: () => driver.init(),
    acquireConnection: () => driver.acquireConnection(),
    beginTransaction: (connection, settings) => driver.beginTransaction(connection, settings),
    async commitTransaction(connection) {
      const begun = performance.now()
      await driver.commitTransaction(connection)
      tellCommit(flushed, begun)
    },
    rollbackTransaction: (connection) => driver.rollbackTransaction(connection),
    releaseConnection: (connection) => driver.releaseConnection(connection),
    destroy: () => driver.destroy(),
  }
}

function tellCommit(flushed: boolean, begun: number): void {
  committed.give(flushed, (performance.now() - begun) / 1000)
}

/** Tells of a statement what Kysely logs. */
export function tellStatement({ query: { query }, queryDurationMillis }: LogEvent): void {
  statementEnded.give(kindOf(query), queryDurationMillis / 1000)
}

function kindOf(query: LogEvent['query']['query']): StatementKind {
  if (SelectQueryNode.is(query)) return 'select'
  if (InsertQueryNode.is(query)) return 'insert'
  if (UpdateQueryNode.is(query)) return 'update'
  return DeleteQueryNode.is(query) ? 'delete' : 'other'
}
