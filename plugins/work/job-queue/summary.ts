import { type Static, Type } from '@sinclair/typebox'
import type { Database } from '../../storage/database/tables.ts'
import { queuedAt } from './job.ts'

const Count = Type.Integer({ minimum: 0 })

/** The jobs of one kind, as the API shows them. */
export const JobsOfKind = Type.Object(
  {
    kind: Type.String(),
    queued: Count,
    running: Count,
    succeeded: Count,
    failed: Count,
    cancelled: Count,
    oldestQueuedSeconds: Type.Union([Type.Number({ minimum: 0 }), Type.Null()], {
      description: 'since when the oldest queued one waits; null where none is queued',
    }),
  },
  {
    examples: [
      {
        kind: 'clone-vfolder',
        queued: 1,
        running: 2,
        succeeded: 40,
        failed: 0,
        cancelled: 1,
        oldestQueuedSeconds: 0.8,
      },
    ],
  },
)
export type JobsOfKind = Static<typeof JobsOfKind>

const none = { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 }

/** How many jobs there are of each of these kinds, and of others that there are jobs of. */
export async function summarize(on: Database, kinds: string[], now: number): Promise<JobsOfKind[]> {
  const counts = await on
    .selectFrom('jobs')
    .select(['kind', 'state'])
    .select(({ fn }) => fn.countAll<number>().as('jobs'))
    .groupBy(['kind', 'state'])
    .execute()
  const oldest = await on
    .selectFrom('jobs')
    .select('kind')
    .select(({ fn }) => fn.min(queuedAt).as('since'))
    .where('finished_at', 'is', null)
    .where('state', '=', 'queued')
    .groupBy('kind')
    .execute()
  const all = new Set([...kinds, ...counts.map(({ kind }) => kind)])
  return [...all].toSorted().map((kind) => {
    const ofKind = { ...none }
    for (const row of counts) if (row.kind === kind) ofKind[row.state] = row.jobs
    const since = oldest.find((row) => row.kind === kind)?.since
    const oldestQueuedSeconds = since === undefined ? null : Math.max(0, (now - Date.parse(since)) / 1000)
    return { kind, ...ofKind, oldestQueuedSeconds }
  })
}
