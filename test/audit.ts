import type { Test } from 'tap'
import { readDatabase } from './database.ts'
import { type Answer, eventually, type Server } from './server.ts'

/** What the table has of a request ID, once it has so many rows; without what a busy machine takes long for. */
export async function rowsOf({ dataDir }: Server, id: string, count: number): Promise<Answer[]> {
  const condition = `outcome != 'slow' and (request_id = '${id}' or origin_request_id = '${id}')`
  return eventually(async () => {
    const rows = await readDatabase(dataDir, `select * from audit where ${condition} order by time, sequence`)
    return rows.length >= count && rows.map(plain)
  })
}

/** PostgreSQL gives large integers as texts. */
function plain({ time, bytes, count, ...row }: Answer): Answer {
  const number = (value: unknown) => (value === null ? null : Number(value))
  return { ...row, time: number(time), bytes: number(bytes), count: number(count) }
}

export async function assertRows(t: Test, server: Server, id: string, expected: object[]): Promise<Answer[]> {
  const rows = await rowsOf(server, id, expected.length)
  t.equal(rows.length, expected.length, rows.map(({ action }) => action).join())
  for (const [index, row] of expected.entries()) t.match(rows[index], row)
  return rows
}
