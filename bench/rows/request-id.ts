import { fileURLToPath } from 'node:url'
import { alternately, type Bench, type Row } from '../row.ts'
import { answering, freePort, start } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

async function emptyRoute(bench: Bench, plugin: 'with' | 'without'): Promise<string> {
  const port = await freePort()
  start(bench, [fileURLToPath(new URL('../empty-route.ts', import.meta.url)), String(port), plugin])
  const url = `http://127.0.0.1:${port}/`
  await answering(url)
  return url
}

export const requestId: Row = {
  name: 'request-id',
  what: 'an empty route with the request-ID plugin, against one without',
  bound: { atLeast: 0.97 },
  async measure(bench) {
    const ours = await emptyRoute(bench, 'with')
    const peer = await emptyRoute(bench, 'without')
    return alternately(15, 'requests/s', {
      ours: () => requestsPerSecond(bench, [ours], 2),
      peer: () => requestsPerSecond(bench, [peer], 2),
    })
  },
}
