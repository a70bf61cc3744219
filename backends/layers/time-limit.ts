import { Unavailable } from '../errors.ts'
import type { BackendCall, Operation } from './call.ts'
import type { Layer } from './layer.ts'

/** Nothing tells how far these calls are, and they may take as long as their work does. */
const unlimited = new Set<Operation>([
  'removeFolder',
  'completeUpload',
  'abortUpload',
  'move',
  'remove',
  'collectGarbage',
  'copy',
  'copyTree',
  'clone',
  'count',
  'close',
])
/** How often within the limit all calls are looked at. */
const looksPerLimit = 8
/** Once all bytes have come they are flushed, or put together, in silence, which may take so many times as long. */
const endings = 10

interface Asked {
  call: BackendCall
  /** Looks since something moved. */
  quiet: number
  /** How many chunks of its source it had then. */
  chunks: number
  reject(reason: Unavailable): void
  /** Its index among all that are asked for. */
  place: number
}

/**
 * Ends a call that moves nothing for so long, with `Unavailable`, and aborts its signal. Only the time counts in which
 * the backend is asked for something, not that of a slow reader or a slow source. One timer looks at all calls, and
 * counts its looks, so that a process that was suspended takes no call for late.
 *
 * `appendUpload` only has its signal aborted: while it may still write, nobody else must go on with the upload.
 */
export function timeLimit(seconds: number): Layer {
  const reason = `the storage did nothing for ${seconds} s`
  // Not a Set: adding to one and removing from it took several times as long as all else that the layers do.
  const asked: Asked[] = []
  const remove = (one: Asked) => {
    if (asked[one.place] !== one) return // It was given up before.
    const last = asked.pop()
    if (last === undefined || last === one) return
    asked[one.place] = last
    last.place = one.place
  }
  const look = () => {
    for (const one of asked.slice()) {
      const { source } = one.call
      const hasMoved = source !== undefined && (source.isAwaited || source.chunks > one.chunks)
      one.quiet = hasMoved ? 0 : one.quiet + 1
      one.chunks = source?.chunks ?? 0
      if (one.quiet <= looksPerLimit * (source?.hasEnded ? endings : 1)) continue
      remove(one)
      const error = new Unavailable(reason)
      one.call.abandon(error)
      if (one.call.operation !== 'appendUpload') one.reject(error)
    }
  }
  const timer = setInterval(look, (seconds * 1000) / looksPerLimit).unref()

  return {
    covers: (operation) => operation === 'close' || !unlimited.has(operation),
    limit(call, answer) {
      if (call.operation === 'close') {
        clearInterval(timer)
        return answer
      }
      return new Promise((resolve, reject) => {
        const one = { call, quiet: 0, chunks: 0, reject, place: asked.length }
        asked.push(one)
        answer.then(
          (result) => {
            remove(one)
            resolve(result)
          },
          (error) => {
            remove(one)
            reject(error)
          },
        )
      })
    },
  }
}
