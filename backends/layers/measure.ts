import { BackendError } from '../errors.ts'
import type { BackendCall, Operation } from './call.ts'
import type { Layer } from './layer.ts'

/**
 * How a call ended. The code of one that failed is that of its `BackendError`; or `source`, when what it was to store
 * failed; `timeout` or `aborted`, when the caller had no more time, or gave it up; or `internal_error`.
 */
export type Report = (operation: Operation, seconds: number, code: string | undefined) => void

/**
 * Reports how long each call took to its answer, and each failure, also one of a further entry or chunk: as the caller
 * meets them, with the wait for a turn, and for the bytes that the call is to store.
 */
export function measure(report: Report): Layer {
  return {
    covers: (_operation, step) => step !== 'end',
    leave(call, step, outcome) {
      if (outcome.status === 'fulfilled' && step === 'more') return
      const code = outcome.status === 'rejected' ? codeOf(call, outcome.reason) : undefined
      report(call.operation, (performance.now() - call.begunAt) / 1000, code)
    },
  }
}

function codeOf(call: BackendCall, reason: unknown): string {
  if (call.source?.failure?.error === reason) return 'source'
  if (reason instanceof BackendError) return reason.code
  if (reason instanceof DOMException && reason.name === 'TimeoutError') return 'timeout'
  return call.signal.aborted ? 'aborted' : 'internal_error'
}
