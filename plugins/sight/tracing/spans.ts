import { type Context, context, type Span, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { currentContext, inContext, type LogContext, traceparent } from '../../../lib/context.ts'
import type { Follower } from '../../../lib/notice.ts'
import { problems } from '../../../lib/problems.ts'

/** Ends that are an answer to the caller, or its doing, and no error. */
const harmless = new Set(['aborted', 'source', 'cancelled', 'interrupted', 'lost'])
for (const [code, { status }] of Object.entries(problems)) if (status < 500) harmless.add(code)

/** What the lines of a span's work have of it, and what it sends to others. */
export function fieldsOf(span: Span): Partial<LogContext> {
  const { traceId, spanId, traceFlags } = span.spanContext()
  const flags = traceFlags.toString(16).padStart(2, '0')
  const isRecorded = (traceFlags & TraceFlags.SAMPLED) !== 0
  return {
    trace_id: traceId,
    ...(isRecorded && { span_id: spanId }),
    [traceparent]: `00-${traceId}-${spanId}-${flags}`,
  }
}

/** Follows work by a span that was begun in `parent`. */
export function followBy(span: Span, parent: Context): Follower {
  const own = trace.setSpan(parent, span)
  return {
    run(work) {
      const current = currentContext()
      const asPart = () => context.with(own, work)
      return current === undefined ? asPart() : inContext({ ...current, ...fieldsOf(span) }, asPart)
    },
    end(failure) {
      if (failure !== undefined) noteFailure(span, failure)
      span.end()
    },
  }
}

export function noteFailure(span: Span, failure: string): void {
  span.setAttribute('error.type', failure)
  if (!harmless.has(failure)) span.setStatus({ code: SpanStatusCode.ERROR, message: failure })
}
