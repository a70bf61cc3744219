import { fileURLToPath } from 'node:url'
import { alternately, type Bench, type Row } from '../row.ts'
import { answering, freePort, start, stop } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

/** A process of its own each time: where the code and the heap come to lie changes the rate by more than the plugin. */
async function rate(bench: Bench, plugin: 'with' | 'without'): Promise<number> {
  const port = await freePort()
  const child = start(bench, [fileURLToPath(new URL('../empty-route.ts', import.meta.url)), String(port), plugin])
  const url = `http://127.0.0.1:${port}/`
  await answering(url)
  await requestsPerSecond(bench, [url], 1)
  const measured = await requestsPerSecond(bench, [url], 2)
  await stop(child)
  return measured
}

export const requestId: Row = {
  name: 'request-id',
  what: 'an empty route with the request-ID plugin, against one without',
  bound: { atLeast: 0.97 },
  measure: (bench) =>
    alternately(11, 'requests/s', { ours: () => rate(bench, 'with'), peer: () => rate(bench, 'without') }),
}
