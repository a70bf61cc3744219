import type { FastifyInstance } from 'fastify'
import { type CompiledQuery, type Insertable, type Selectable, sql } from 'kysely'
import type { Database, Tables } from '../../storage/database/tables.ts'

export type AuditRow = Required<Omit<Insertable<Tables['audit']>, 'sequence'>>
export type StoredRow = Selectable<Tables['audit']>

const integers = ['time', 'count', 'bytes'] as const
const texts = [
  'request_id',
  'origin_request_id',
  'act',
  'actor',
  'action',
  'volume',
  'vfolder',
  'path',
  'outcome',
  'code',
  'subject',
  'process',
] as const
const columns = [...integers, ...texts]

/** A statement that adds rows. */
export function createInsertion(database: Pick<FastifyInstance['database'], 'insertAll'>) {
  const names = sql.join(columns.map((column) => sql.ref(column)))
  const types = [...integers.map(() => 'bigint' as const), ...texts.map(() => 'text' as const)]
  const insert = database.insertAll(sql`insert into audit (${names})`, types)
  return (rows: AuditRow[]): CompiledQuery => insert(rows.map((row) => columns.map((column) => row[column])))
}

/** Removes rows from before a time. @returns whether there may be more */
export async function removeOld(on: Database, time: number, limit: number): Promise<boolean> {
  const old = on.selectFrom('audit').select('sequence').where('time', '<', time).orderBy('time').limit(limit)
  const { numDeletedRows } = await on.deleteFrom('audit').where('sequence', 'in', old).executeTakeFirstOrThrow()
  return numDeletedRows === BigInt(limit)
}

/** A place among the rows of a story, which are in order of time. */
export interface Position {
  time: number
  sequence: number
}

export interface PageOptions {
  limit: number
  after?: Position | undefined
}

/** What was done under a request ID, and by requests that it led to, after a place in the order of time. */
export async function listOf(on: Database, requestId: string, { limit, after }: PageOptions): Promise<StoredRow[]> {
  const rowsBy = (column: 'request_id' | 'origin_request_id') => {
    let query = on.selectFrom('audit').selectAll().where(column, '=', requestId)
    if (after !== undefined) {
      const { time, sequence } = after
      // The first condition is one of the index.
      query = query
        .where('time', '>=', time)
        .where((eb) => eb.or([eb('time', '>', time), eb('sequence', '>', sequence)]))
    }
    return query.orderBy('time').orderBy('sequence').limit(limit)
  }
  const [own, opened] = await Promise.all([
    rowsBy('request_id').execute(),
    rowsBy('origin_request_id').where('request_id', '!=', requestId).execute(),
  ])
  return [...own, ...opened].sort(byTime).slice(0, limit)
}

function byTime(one: StoredRow, other: StoredRow): number {
  return one.time - other.time || one.sequence - other.sequence
}
