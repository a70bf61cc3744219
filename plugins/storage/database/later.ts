import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { isPassing } from './failures.ts'

const pauseMilliseconds = 1000

/**
 * Writes down what has happened also when the database is away just then: again and again until it is back, or the
 * service closes. What is left then is that of a dead process.
 */
export function createLater(log: FastifyBaseLogger) {
  const closing = new AbortController()

  /** Rejects when `signal` aborts first, or with what has nothing to do with the database being away. */
  async function insist<T>(work: () => Promise<T>, signal: AbortSignal = closing.signal): Promise<T> {
    for (let isTold = false; ; isTold = true) {
      try {
        return await work()
      } catch (error) {
        if (!isPassing(error) || signal.aborted) throw error
        if (!isTold) log.warn({ err: error }, 'the database is away; what has happened is written down when it is back')
      }
      await sleep(pauseMilliseconds, undefined, { ref: false, signal })
    }
  }

  /** Tries at once, and where the database is away goes on by itself. */
  async function writeLater(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!isPassing(error)) throw error
      insist(work).catch((err) => {
        if (!closing.signal.aborted) log.error({ err }, 'what has happened could not be written down')
      })
    }
  }

  return { insist, writeLater, stop: () => closing.abort() }
}
