import { context, propagation, ROOT_CONTEXT, SpanKind, type Tracer, trace } from '@opentelemetry/api'
import { currentRequestId } from '../../../lib/context.ts'
import { callBegun, commandEnded } from '../../storage/notices.ts'
import { attemptBegun } from '../../work/job-queue/notices.ts'
import { followBy } from './spans.ts'

/** Spans for calls of backends and commands to their servers, as parts of what asks for them. @returns what ends it */
export function traceStorage(tracer: Tracer): () => void {
  const endCalls = callBegun.take((volume, { operation, names }) => {
    const parent = context.active()
    // What nobody records, or no request and no job asks for, such as a look at the health.
    if (!trace.getSpan(parent)?.isRecording()) return undefined
    const { folder, path, target, toFolder, upload } = names
    const attributes = { volume, operation, folder, path, target, target_folder: toFolder, upload_id: upload }
    const told = { request_id: currentRequestId(), ...attributes }
    return followBy(tracer.startSpan(`backend ${operation}`, { attributes: told }, parent), parent)
  })

  const endCommands = commandEnded.take((volume, { name, attempts, seconds, failed }) => {
    const parent = context.active()
    if (!trace.getSpan(parent)?.isRecording()) return
    const attributes = { request_id: currentRequestId(), volume, command: name, attempts }
    const now = performance.now()
    const options = { kind: SpanKind.CLIENT, attributes, startTime: now - seconds * 1000 }
    const span = tracer.startSpan(`command ${name}`, options, parent)
    // Whether that is an error, such as of a HeadObject, the call of the backend knows.
    if (failed) span.setAttribute('error.type', 'failed')
    span.end(now)
  })

  return () => {
    endCalls()
    endCommands()
  }
}

/**
 * A span for each attempt of a job, on whichever process: in the trace of the request that started the job, to which it
 * is linked as well, since that one is over long before. @returns what ends it
 */
export function traceJobs(tracer: Tracer): () => void {
  return attemptBegun.take((row) => {
    const { traceparent } = row
    const parent = traceparent === null ? ROOT_CONTEXT : propagation.extract(ROOT_CONTEXT, { traceparent })
    const starter = trace.getSpanContext(parent)
    const attributes = {
      request_id: row.request_id,
      job_id: row.id,
      kind: row.kind,
      attempt: row.attempts,
      ...(row.vfolder !== null && { folder: row.vfolder }),
    }
    const links = starter === undefined ? [] : [{ context: starter }]
    const span = tracer.startSpan(`job ${row.kind}`, { kind: SpanKind.CONSUMER, attributes, links }, parent)
    return followBy(span, parent)
  })
}
