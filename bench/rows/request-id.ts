import { fileURLToPath } from 'node:url'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { type Bench, type Measured, median, type Row } from '../row.ts'
import { answering, freePort, start, stop } from '../service.ts'
import { requestsPerSecond } from '../wrk.ts'

const Rates = Type.Object({ ours: Type.Array(Type.Number()), peer: Type.Array(Type.Number()) })

/** Both in one process, in turn, once what is run has been compiled. */
async function rates(bench: Bench): Promise<{ ours: number; peer: number }> {
  const port = await freePort()
  const child = start(bench, [fileURLToPath(new URL('../empty-route.ts', import.meta.url)), String(port)])
  const url = `http://127.0.0.1:${port}/`
  await answering(url)
  const read = async () => Value.Parse(Rates, await (await fetch(`${url}rates`)).json())
  await requestsPerSecond(bench, [url], { durationSeconds: 2 })
  const warm = await read()
  await requestsPerSecond(bench, [url], { durationSeconds: 8 })
  const { ours, peer } = await read()
  await stop(child)
  return { ours: median(ours.slice(warm.ours.length)), peer: median(peer.slice(warm.peer.length)) }
}

async function measure(bench: Bench): Promise<Measured> {
  const rounds = []
  for (let round = 0; round < 5; round++) rounds.push(await rates(bench))
  rounds.sort((a, b) => a.ours / a.peer - b.ours / b.peer)
  return { ...(rounds[2] ?? { ours: Number.NaN, peer: Number.NaN }), unit: 'requests/s' }
}

export const requestId: Row = {
  name: 'request-id',
  what: 'an empty route with the request-ID plugin, against one without, in requests per second of the processor',
  bound: { atLeast: 0.97 },
  measure,
}
