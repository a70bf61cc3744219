import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Bench, Measured, Row } from '../row.ts'
import { compareVariants } from '../variants.ts'

/** Takes whatever comes, as a collector does. */
async function startReceiver({ cleanup }: Bench): Promise<string> {
  const server = createServer((request, answer) => {
    request.resume().once('end', () => answer.end())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanup(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the receiver does not listen on a port')
  return `http://127.0.0.1:${address.port}`
}

async function measure(bench: Bench): Promise<Measured> {
  return compareVariants(bench, { ours: { OTEL_EXPORTER_OTLP_ENDPOINT: await startReceiver(bench) }, peer: {} })
}

/** For information: two spans a download, all of them recorded. Who wants it for less has some of them recorded. */
export const tracing: Row = {
  name: 'tracing',
  what: 'signed downloads of 4 KiB with traces of all, against none, in files per second of the processor (0.7 is wanted)',
  bound: { atLeast: 0 },
  measure,
}
