import { type BackendCall, failureOf } from './call.ts'
import type { Layer } from './layer.ts'

/**
 * How a call ended: `code` is that of one that failed, by `failureOf`.
 */
export type Report = (call: BackendCall, seconds: number, code: string | undefined) => void

/**
 * Reports how long each call took to its answer, and each failure, also one of a further entry or chunk: as the caller
 * meets them, with the wait for a turn, and for the bytes that the call is to store.
 */
export function measure(report: Report): Layer {
  return {
    covers: (_operation, step) => step !== 'end',
    leave(call, step, outcome) {
      if (outcome.status === 'fulfilled' && step === 'more') return
      const code = outcome.status === 'rejected' ? failureOf(call, outcome.reason) : undefined
      report(call, (performance.now() - call.begunAt) / 1000, code)
    },
  }
}
