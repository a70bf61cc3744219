import { type LogContext, setActor, traceparent } from '../../../lib/context.ts'
import type { Facts } from '../audit/facts.ts'
import type { JobRow } from './job.ts'

/** What its work is done in: the request that started it, and the job for whoever asks who has done it. */
export function contextOf(row: Pick<JobRow, 'id' | 'kind' | 'request_id' | 'trace_id' | 'traceparent'>): LogContext {
  const context = {
    request_id: row.request_id,
    job_id: row.id,
    ...(row.trace_id !== null && { trace_id: row.trace_id }),
    ...(row.traceparent !== null && { [traceparent]: row.traceparent }),
  }
  setActor(`job:${row.kind}`, context)
  return context
}

/** What the audit trail says of a job. */
export function auditedOf(row: Pick<JobRow, 'id' | 'vfolder' | 'volume'>): Omit<Facts, 'action'> {
  return { subject: row.id, folder: row.vfolder ?? undefined, volume: row.volume ?? undefined }
}
