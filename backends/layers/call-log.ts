import type { FastifyBaseLogger } from 'fastify'
import { type BackendCall, entriesIn, isList } from './call.ts'
import type { Layer } from './layer.ts'

/**
 * Logs every call of a backend at level `debug`, with how it ended and how long it took; the request ID comes from the
 * context that the call is made in. A listing ends when nobody takes more of it, and has the `count` of its entries.
 */
export function callLog(log: FastifyBaseLogger): Layer {
  /** Entries so far of the lists that have not ended. */
  const counts = new WeakMap<BackendCall, number>()

  const logEnd = (call: BackendCall, outcome: PromiseSettledResult<unknown>, count: { count?: number }) => {
    const fields = { ...fieldsOf(call), ...count, duration_ms: Math.round(performance.now() - call.begunAt) }
    if (outcome.status === 'fulfilled') log.debug(fields, 'storage call done')
    else log.debug({ ...fields, err: outcome.reason }, 'storage call failed')
  }

  return {
    covers: (operation, step) => step === 'answer' || isList(operation),
    enter(call, step) {
      if (step !== 'answer') return undefined
      log.debug(fieldsOf(call), 'storage call')
      if (isList(call.operation)) counts.set(call, 0)
      return undefined
    },
    leave(call, _step, outcome) {
      if (!isList(call.operation)) return logEnd(call, outcome, {})
      const count = counts.get(call)
      if (count === undefined) return
      const more = entriesIn(outcome)
      if (more !== undefined) {
        counts.set(call, count + more)
        return
      }
      counts.delete(call)
      logEnd(call, outcome, { count })
    },
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
