import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { LruMap as Cache } from 'toad-cache'
import type { Rate } from '../access/rates.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * Passes on `chunks` in pieces, no faster than `rate`; without a rate, as they are. It ends early, as if they were
     * complete, when `end` aborts, and throws when the request is aborted.
     */
    paced(chunks: AsyncIterable<Buffer>, rate: Rate | undefined, end?: AbortSignal): AsyncIterable<Buffer>
  }
}

/**
 * How much time a piece stands for: little, so that bytes flow evenly, but not so little that timers are most of the
 * work.
 */
const pieceSeconds = 0.1
/** Timers are not exact enough for a shorter wait; it is added to that of the next piece. */
const shortestWaitMilliseconds = 5
/** How much of a delay is made up for at most, so that no burst follows a pause. */
const creditMilliseconds = 500
/** How many keys are remembered. Each of them is used with every piece, so an idle one is forgotten first. */
const maxKeys = 10_000

/** Tells transfers that share a rate when their next pieces may move, in the order in which they ask. */
function createTimetable(now = () => performance.now()) {
  const free = new Cache<number>(maxKeys)
  const duration = ({ bytesPerSecond }: Rate, bytes: number) => (bytes * 1000) / bytesPerSecond

  return {
    /** In how many milliseconds the bytes may move; negative when they are late. */
    take(rate: Rate, bytes: number): number {
      const time = now()
      const start = Math.max(free.get(rate.key) ?? time, time - creditMilliseconds)
      free.set(rate.key, start + duration(rate, bytes))
      return start - time
    },

    /** Takes back the time of bytes that will not move. */
    giveBack(rate: Rate, bytes: number): void {
      free.set(rate.key, (free.get(rate.key) ?? now()) - duration(rate, bytes))
    },
  }
}

/** Keeps transfers to the rates of their signed URLs. */
export default fp(
  async (app) => {
    const timetable = createTimetable()

    async function* pace(request: FastifyRequest, chunks: AsyncIterable<Buffer>, rate: Rate, end?: AbortSignal) {
      const signal = end === undefined ? request.abortSignal : AbortSignal.any([request.abortSignal, end])
      const pieceBytes = Math.ceil(rate.bytesPerSecond * pieceSeconds)
      for await (const chunk of chunks) {
        for (let at = 0; at < chunk.length; at += pieceBytes) {
          const piece = chunk.subarray(at, at + pieceBytes)
          const wait = timetable.take(rate, piece.length)
          if (wait > shortestWaitMilliseconds) await request.hold(sleep(wait, undefined, { signal }).catch(() => {}))
          if (signal.aborted) timetable.giveBack(rate, piece.length)
          if (end?.aborted) return
          signal.throwIfAborted()
          yield piece
        }
      }
    }

    app.decorateRequest('paced', function (this: FastifyRequest, chunks, rate, end) {
      return rate === undefined ? chunks : pace(this, chunks, rate, end)
    })
  },
  { name: 'pacing', dependencies: ['connection-abort', 'connection-idle'] },
)
