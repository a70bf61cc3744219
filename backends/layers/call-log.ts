import { performance } from 'node:perf_hooks'
import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from '../backend.ts'

/**
 * Logs every call of a backend at level `debug`, with how it ended and how long it took; the request ID comes from the
 * context that the call is made in. A capability that is absent stays absent.
 */
export function withCallLog(backend: Backend, log: FastifyBaseLogger): Backend {
  return new Proxy(backend, {
    get(target, operation) {
      const member: unknown = Reflect.get(target, operation)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        const [folder, path] = args.filter((arg) => typeof arg === 'string')
        const call = { operation, folder, path }
        log.debug(call, 'storage call')
        const started = performance.now()
        const result: unknown = Reflect.apply(member, target, args)
        if (result instanceof Promise) {
          const duration = () => Math.round(performance.now() - started)
          result.then(
            () => log.debug({ ...call, duration_ms: duration() }, 'storage call done'),
            (err) => log.debug({ ...call, duration_ms: duration(), err }, 'storage call failed'),
          )
        }
        return result
      }
    },
  })
}
