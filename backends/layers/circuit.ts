import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from '../backend.ts'
import { BackendError, Unavailable } from '../errors.ts'

/** So many calls in a row must find the storage away before it is taken to be. */
const failuresToOpen = 5
/** Then calls fail at once for so long, before one of them tries again. */
const restMilliseconds = 5000

/** Calls that need no storage, or must end whatever it does. */
const passing = new Set<keyof Backend>(['close', 'mount', 'presign'])

/**
 * Spares callers the wait for a storage that is away: after some calls in a row that rejected with `Unavailable`, or ran
 * out of the time that their signal gave them, as `health` soon does, all others do so at once and say why. From time to
 * time one call is let through, and when that finds the storage back, so are all. A capability that is absent stays
 * absent.
 */
export function withCircuit(backend: Backend, log: FastifyBaseLogger): Backend {
  let failures = 0
  let reason = ''
  /** While the circuit is open: when the next call may try. */
  let retryAt: number | undefined

  const enter = () => {
    if (retryAt === undefined) return
    if (performance.now() < retryAt) throw new Unavailable(`the storage is away: ${reason}`)
    retryAt = performance.now() + restMilliseconds
  }

  const succeeded = () => {
    failures = 0
    if (retryAt === undefined) return
    retryAt = undefined
    log.info('the storage is back')
  }

  const failed = (error: unknown) => {
    if (error instanceof Unavailable) reason = error.message
    else if (isLate(error)) reason = 'it does not answer in time'
    else {
      // An answer of the storage is a sign of life; an aborted call says nothing.
      if (error instanceof BackendError) succeeded()
      return
    }
    if (++failures < failuresToOpen) return
    if (retryAt === undefined) log.warn({ reason }, 'the storage is away')
    retryAt = performance.now() + restMilliseconds
  }

  async function* watched<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
    enter()
    try {
      for await (const item of items) {
        succeeded()
        yield item
      }
      succeeded()
    } catch (error) {
      failed(error)
      throw error
    }
  }

  return new Proxy(backend, {
    get(target, operation) {
      const member: unknown = Reflect.get(target, operation)
      if (typeof member !== 'function' || passing.has(operation as keyof Backend)) return member
      if (operation === 'list') return (...args: Parameters<Backend['list']>) => watched(target.list(...args))
      return async (...args: unknown[]) => {
        enter()
        try {
          const result: unknown = await Reflect.apply(member, target, args)
          succeeded()
          return result
        } catch (error) {
          failed(error)
          throw error
        }
      }
    },
  })
}

/** The reason of an `AbortSignal.timeout`. */
function isLate(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError'
}
