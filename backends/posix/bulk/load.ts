import { performance } from 'node:perf_hooks'

const intervalMilliseconds = 100
/** The share of its time for which the event loop is at work when requests keep it busy. */
const busyUtilization = 0.5

/** Tells whether requests keep this process busy, until the returned function is called. */
export function watchLoad(tell: (isBusy: boolean) => void): () => void {
  let last = performance.eventLoopUtilization()
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization()
    tell(performance.eventLoopUtilization(now, last).utilization > busyUtilization)
    last = now
  }, intervalMilliseconds)
  timer.unref()
  return () => clearInterval(timer)
}
