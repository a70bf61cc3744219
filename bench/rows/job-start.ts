import { join } from 'node:path'
import { startPostgres } from '../postgres.ts'
import { percentile, type Row } from '../row.ts'
import { startService } from '../service.ts'

const jobs = 300

export const jobStart: Row = {
  name: 'job-start',
  what: `${jobs} jobs, one after the other, each started by another process on PostgreSQL than the one that queued it`,
  bound: { belowMilliseconds: 50 },
  async measure(bench) {
    const shared = { DATABASE_URL: await startPostgres(bench), SIGNING_KEYS: 'a-signing-key-for-the-bench-32-bytes' }
    const volumes = (...names: string[]) =>
      JSON.stringify(
        Object.fromEntries(names.map((name) => [name, { backend: 'posix', root: join(bench.directory, name) }])),
      )
    // Only the process that has the volume can run its jobs.
    const runs = await startService(bench, {
      ...shared,
      DATA_DIR: join(bench.directory, 'runs'),
      VOLUMES: volumes('own'),
    })
    const queues = await startService(bench, {
      ...shared,
      DATA_DIR: join(bench.directory, 'queues'),
      VOLUMES: volumes('other'),
    })
    const folder = await runs.createFolder('own')
    const waits: number[] = []
    for (let count = 0; count < jobs; count++) waits.push(startedAfter(await queues.sync(folder)))
    const [median, p99] = [percentile(waits, 0.5), percentile(waits, 0.99)]
    return { milliseconds: p99, told: `p50 ${median} ms, p99 ${p99} ms` }
  },
}

/** Both times are by the clock of the database; the first is from before the transaction that queues the job. */
function startedAfter({ createdAt, startedAt }: { createdAt: string; startedAt: string | null }): number {
  return Date.parse(startedAt ?? '') - Date.parse(createdAt)
}
