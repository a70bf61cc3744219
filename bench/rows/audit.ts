import { join } from 'node:path'
import { sql } from 'kysely'
import { buildApp } from '../../app.ts'
import { loadConfig } from '../../plugins/config.ts'
import { createLoggers } from '../../plugins/request/logging.ts'
import { type Bench, percentile, type Row, type Waits } from '../row.ts'
import { compareVariants } from '../variants.ts'

export const audit: Row = {
  name: 'audit',
  what: 'signed downloads of 4 KiB with the audit trail, against AUDIT=off, in files per second of the processor',
  bound: { atLeast: 0.95 },
  measure: (bench) => compareVariants(bench, { ours: { AUDIT: 'on' }, peer: { AUDIT: 'off' } }),
}

/** Ten million take minutes to make; the time for a story hardly depends on it. */
const rows = Number(process.env.BENCH_AUDIT_ROWS ?? 1_000_000)
const stories = 200
const token = 'a-manager-token-for-the-bench'

/** Requests with IDs of their own, each with one more that has opened what it signed. */
async function fill(bench: Bench) {
  const config = loadConfig({
    DATA_DIR: join(bench.directory, 'data'),
    MANAGER_TOKENS: token,
    SIGNING_KEYS: 'a-signing-key-for-the-bench-32-bytes',
  })
  const app = await buildApp(config, createLoggers('silent'))
  bench.cleanup(() => app.close())
  await app.ready()
  const numbers = sql`with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < ${rows})`
  // As random as UUIDs are, and yet known to who asks.
  const idOf = (n: ReturnType<typeof sql>) => sql`printf('%016x-%d', (${n}) * 2654435761 % 4294967296, ${n})`
  await sql`insert into audit (time, request_id, origin_request_id, actor, action, vfolder, path, bytes, outcome)
    ${numbers} select n, ${idOf(sql`n`)}, case when n % 2 = 0 then ${idOf(sql`n - 1`)} end, 'signed-url:AbCdEfGh', 'file.read',
      '0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11', 'data/train.csv', 4096, 'succeeded' from numbers`.execute(app.database)
  return app
}

async function measure(bench: Bench): Promise<Waits> {
  const app = await fill(bench)
  const times: number[] = []
  for (let count = 0; count < stories; count++) {
    const n = Math.floor(Math.random() * (rows / 2)) * 2 + 1
    const id = `${((BigInt(n) * 2654435761n) % 4294967296n).toString(16).padStart(16, '0')}-${n}`
    const begun = performance.now()
    const answer = await app.inject({ url: `/requests/${id}`, headers: { authorization: `Bearer ${token}` } })
    times.push(performance.now() - begun)
    if (answer.json().chapters?.length !== 2) throw new Error(`the story of ${id} is ${answer.body}`)
  }
  const milliseconds = percentile(times, 0.95)
  const told = `${milliseconds.toFixed(1)} ms (95 %), ${percentile(times, 0.5).toFixed(1)} ms (50 %)`
  return { milliseconds, told }
}

export const story: Row = {
  name: 'story',
  what: `the story of a request ID among ${rows.toLocaleString('en')} rows of the audit trail`,
  bound: { belowMilliseconds: 100 },
  measure,
}
