import type { FastifyInstance } from 'fastify'
import type { Family } from '../../../lib/metric-families.ts'
import { within } from '../../../lib/within.ts'
import { usagePutRight } from '../../vfolders/notices.ts'
import { attemptEnded, takenOver } from '../../work/job-queue/notices.ts'
import { lookAtEvents } from './events.ts'
import { Counter, Gauge, Histogram } from './instruments.ts'
import { Meters } from './meters.ts'

const bounds = [0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 14_400]

/** Who scrapes waits a few seconds for the rest as well. */
const patienceSeconds = 1

/** What this process does in the background. */
export function countWork(meters: Meters, app: FastifyInstance): void {
  const attempts = meters.add(
    new Histogram({
      name: 'storage_proxy_job_attempt_duration_seconds',
      help: 'Attempts of jobs by how they ended, and how long they took.',
      labels: ['kind', 'end'],
      bounds,
    }),
  )
  const takeOvers = meters.add(
    new Counter({
      name: 'storage_proxy_job_takeovers_total',
      help: 'Jobs that a process has gone on with after another one had died, or had let go of them.',
      labels: ['kind'],
      // The first one is seen to have come only where there was none before.
      look: () => {
        for (const kind of app.jobs.kinds()) takeOvers.of(kind)
      },
    }),
  )
  meters.until(attemptEnded.take((kind, end, seconds) => attempts.of(kind, end).observe(seconds)))
  meters.until(takenOver.take((kind, jobs) => takeOvers.of(kind).add(jobs)))
  countSyncs(meters)
}

function countSyncs(meters: Meters): void {
  const labels = ['volume']
  const name = (what: string) => `storage_proxy_quota_sync_${what}_total`
  const counted = new Counter({ name: name('vfolders'), help: 'Vfolders that a sync has counted.', labels })
  const drifted = new Counter({ name: name('drifted_vfolders'), help: 'Those whose counters were off.', labels })
  const bytes = new Counter({ name: name('drift_bytes'), help: 'By how many bytes, up or down.', labels })
  const files = new Counter({ name: name('drift_files'), help: 'By how many files, up or down.', labels })
  for (const counter of [counted, drifted, bytes, files]) meters.add(counter)
  meters.until(
    usagePutRight.take((volume, drift) => {
      counted.of(volume).add()
      if (drift.bytes !== 0 || drift.files !== 0) drifted.of(volume).add()
      bytes.of(volume).add(Math.abs(drift.bytes))
      files.of(volume).add(Math.abs(drift.files))
    }),
  )
}

/** What the database knows, which is the same for all processes; of a database that is away, only that it is. */
export async function lookAtQueue(app: FastifyInstance): Promise<Family[]> {
  const meters = new Meters()
  const up = meters.add(
    new Gauge({ name: 'storage_proxy_database_up', help: 'Whether the database has answered this scrape.' }),
  )
  const unended = await within(patienceSeconds, app.jobs.countUnended()).catch(() => undefined)
  if (unended === undefined) return meters.collect()
  up.of().value = 1
  const jobs = meters.add(
    new Gauge({
      name: 'storage_proxy_jobs',
      help: 'Jobs that have not ended, of all processes that share the database.',
      labels: ['kind', 'state'],
    }),
  )
  const oldest = meters.add(
    new Gauge({
      name: 'storage_proxy_jobs_oldest_queued_seconds',
      help: 'For how long the oldest queued job of the kind has been there; 0 where there is none.',
      labels: ['kind'],
    }),
  )
  for (const kind of app.jobs.kinds()) {
    oldest.of(kind)
    for (const state of ['queued', 'running']) jobs.of(kind, state)
  }
  for (const row of unended) {
    jobs.of(row.kind, row.state).value = row.jobs
    if (row.state === 'queued') oldest.of(row.kind).value = Math.max(0, (app.database.now() - row.since) / 1000)
  }
  await within(patienceSeconds, lookAtEvents(meters, app)).catch(() => {})
  return meters.collect()
}
