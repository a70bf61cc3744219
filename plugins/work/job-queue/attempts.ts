import { type Static, Type } from '@sinclair/typebox'
import type { Insertable, Selectable } from 'kysely'
import { attemptOutcomes, type Database, type Tables } from '../../storage/database/tables.ts'
import { Job, JobError, MaybeTime } from './job.ts'

/** How many of a job are remembered, the latest: one that is committed may be tried for weeks. */
const keptAttempts = 100

/** Of how many jobs they are forgotten by one statement: the values that it takes are limited. */
const atOnce = 1000

/** One run of a job, as the API shows it. */
export const JobAttempt = Type.Object({
  number: Type.Integer({ minimum: 1 }),
  process: Type.String({ description: 'the ID of the process that ran it' }),
  startedAt: Type.String({ format: 'date-time' }),
  endedAt: MaybeTime,
  outcome: Type.Union([...attemptOutcomes.map((outcome) => Type.Literal(outcome)), Type.Null()], {
    description:
      'null: it runs; `repeated`: it failed, and was to be tried again; `interrupted`: its process closed, or was cut off ' +
      'from the database; `lost`: its process died, or counted as dead, and another one went on',
  }),
  error: Type.Optional(JobError),
})
export type JobAttempt = Static<typeof JobAttempt>

/** A job with the latest of its attempts, in their order. */
export const JobDetails = Type.Object(
  { ...Job.properties, history: Type.Array(JobAttempt, { description: 'its attempts, the latest hundred' }) },
  {
    $id: 'JobDetails',
    title: 'JobDetails',
    examples: (Job.examples ?? []).map((job: object) => ({
      ...job,
      history: [
        {
          number: 1,
          process: '0198c7a1-9f3e-7d52-8c41-2b7a6e5d4c3b',
          startedAt: '2026-01-02T03:04:05.700Z',
          endedAt: null,
          outcome: null,
        },
      ],
    })),
  },
)
export type JobDetails = Static<typeof JobDetails>

type Row = Selectable<Tables['job_attempts']>
type Key = Pick<Row, 'job' | 'number'>

/** Writes down what begins. What began before and has no end was lost: its process wrote down none. */
export async function begin(trx: Database, rows: Insertable<Tables['job_attempts']>[]): Promise<void> {
  for (const { job, number, started_at } of rows) {
    if (number === 1) continue
    await trx
      .updateTable('job_attempts')
      .set({ outcome: 'lost', ended_at: started_at })
      .where('job', '=', job)
      .where('ended_at', 'is', null)
      .execute()
    const oldest = number - keptAttempts
    if (oldest > 0) await trx.deleteFrom('job_attempts').where('job', '=', job).where('number', '<=', oldest).execute()
  }
  await trx.insertInto('job_attempts').values(rows).execute()
}

export async function end(
  trx: Database,
  { job, number }: Key,
  how: Pick<Row, 'outcome' | 'ended_at' | 'error'>,
): Promise<void> {
  await trx.updateTable('job_attempts').set(how).where('job', '=', job).where('number', '=', number).execute()
}

/** The latest attempts of each of these jobs, in their order. */
export async function listAttempts(on: Database, jobs: string[]): Promise<(JobAttempt & { job: string })[]> {
  if (jobs.length === 0) return []
  const query = on.selectFrom('job_attempts').selectAll().where('job', 'in', jobs)
  return (await query.orderBy('job').orderBy('number').execute()).map((row) => ({ job: row.job, ...toAttempt(row) }))
}

/** Of jobs that are forgotten. */
export async function forgetAttempts(trx: Database, jobs: string[]): Promise<void> {
  for (let start = 0; start < jobs.length; start += atOnce) {
    await trx
      .deleteFrom('job_attempts')
      .where('job', 'in', jobs.slice(start, start + atOnce))
      .execute()
  }
}

function toAttempt({ number, process, started_at, ended_at, outcome, error }: Row): JobAttempt {
  return {
    number,
    process,
    startedAt: started_at,
    endedAt: ended_at,
    outcome,
    ...(error !== null && { error: JSON.parse(error) }),
  }
}
