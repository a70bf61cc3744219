import { performance } from 'node:perf_hooks'
import type { FastifyBaseLogger } from 'fastify'
import type { BackendCall } from './call.ts'
import type { Layer } from './layer.ts'

interface Begun {
  fields: object
  at: number
  /** Entries of a list so far. */
  count: number
}

/**
 * Logs every call of a backend at level `debug`, with how it ended and how long it took; the request ID comes from the
 * context that the call is made in. A listing ends when nobody takes more of it, and has the `count` of its entries.
 */
export function callLog(log: FastifyBaseLogger): Layer {
  const lists = new WeakMap<BackendCall, Begun>()

  const begin = (call: BackendCall): Begun => {
    const begun = { fields: fieldsOf(call), at: performance.now(), count: 0 }
    log.debug(begun.fields, 'storage call')
    if (call.isList) lists.set(call, begun)
    return begun
  }
  const end = ({ fields, at }: Begun, outcome: object, message: string) =>
    log.debug({ ...fields, ...outcome, duration_ms: Math.round(performance.now() - at) }, message)

  return async (call, next, step) => {
    const begun = step === 'answer' ? begin(call) : lists.get(call)
    if (begun === undefined) return next()
    const outcome = () => (call.isList ? { count: begun.count } : {})
    try {
      const result = await next()
      if (call.isList && !hasEnded(result)) begun.count++
      else {
        end(begun, outcome(), 'storage call done')
        lists.delete(call)
      }
      return result
    } catch (err) {
      end(begun, { ...outcome(), err }, 'storage call failed')
      lists.delete(call)
      throw err
    }
  }
}

function fieldsOf({ operation, names }: BackendCall): object {
  const { folder, path, target, toFolder, upload } = names
  return {
    operation,
    ...(folder !== undefined && { folder }),
    ...(upload !== undefined && { upload_id: upload }),
    ...(path !== undefined && { path }),
    ...(target !== undefined && { target }),
    ...(toFolder !== undefined && { target_folder: toFolder }),
  }
}

function hasEnded(result: unknown): boolean {
  return typeof result === 'object' && result !== null && 'done' in result && result.done === true
}
