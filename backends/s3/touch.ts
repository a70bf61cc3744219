import type { Call } from '../backend.ts'

/** A touch that takes longer is given up, so that nobody waits for it at the end; the next one may come through. */
const touchTimeoutMilliseconds = 5000

/**
 * Touches something in the bucket every so often, so that the cleanup and others see that somebody is at work.
 * @returns ends it; nothing is touched any more when that resolves
 */
export function keepTouching(milliseconds: number, touch: (call: Call) => Promise<unknown>): () => Promise<void> {
  let touched: Promise<unknown> | undefined
  const timer = setInterval(() => {
    touched ??= touch({ signal: AbortSignal.timeout(touchTimeoutMilliseconds) })
      .catch(() => {})
      .finally(() => {
        touched = undefined
      })
  }, milliseconds)
  return async () => {
    clearInterval(timer)
    await touched
  }
}
