import type { FastifyBaseLogger } from 'fastify'
import { BackendError, ToolFailed, Unavailable, VolumeUnavailable } from '../errors.ts'
import { isList, type Operation } from './call.ts'
import type { Layer } from './layer.ts'

/** After so many calls in a row that find the storage away, it counts as away. */
const failuresToOpen = 5
/** How long calls then fail at once, before one of them tries again. */
const restMilliseconds = 5000

/** Calls that need no storage, or must end whatever it does. */
const passing = new Set<Operation>(['close', 'mount', 'presign'])

/**
 * Spares callers the wait for a storage that is away: after some calls in a row that rejected with `Unavailable`, or
 * ran out of the time that their signal gave them, as `health` soon does, all others reject at once and say why. From
 * time to time one call is let through; when it finds the storage back, all are.
 * @param onTurn is told when the storage counts as away, and when it is back
 */
export function circuit(log: FastifyBaseLogger, onTurn: (isOpen: boolean) => void = () => {}): Layer {
  let failures = 0
  let reason = ''
  /** While the circuit is open: when the next call may try. */
  let retryAt: number | undefined

  const isShut = () => {
    if (retryAt === undefined) return false
    if (performance.now() < retryAt) return true
    retryAt = performance.now() + restMilliseconds
    return false
  }

  const noteSuccess = () => {
    failures = 0
    if (retryAt === undefined) return
    retryAt = undefined
    onTurn(false)
    log.info('the storage is back')
  }

  const noteFailure = (error: unknown) => {
    if (error instanceof Unavailable && !(error instanceof VolumeUnavailable)) reason = error.message
    else if (isLate(error)) reason = 'it does not answer in time'
    else {
      // An answer of the storage is a sign of life; an aborted call, or a tool beside the storage, says nothing.
      if (error instanceof BackendError && !(error instanceof ToolFailed)) noteSuccess()
      return
    }
    if (++failures < failuresToOpen) return
    if (retryAt === undefined) {
      onTurn(true)
      log.warn({ reason }, 'the storage is away')
    }
    retryAt = performance.now() + restMilliseconds
  }

  return {
    // A file that changes while it is read is reported as `Unavailable` too.
    covers: (operation, step) =>
      !passing.has(operation) && (step === 'answer' || (step === 'more' && isList(operation))),
    enter(_call, step) {
      if (step === 'answer' && isShut()) throw new Unavailable(`the storage is away: ${reason}`)
      return undefined
    },
    leave({ source }, _step, outcome) {
      if (outcome.status === 'fulfilled') noteSuccess()
      // What a source throws may be the failure of another storage.
      else if (source?.failure?.error !== outcome.reason) noteFailure(outcome.reason)
    },
  }
}

/** The reason of an `AbortSignal.timeout`. */
function isLate(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError'
}
