import cluster from 'node:cluster'
import { randomUUID } from 'node:crypto'
import { type Family, type MetricsMessage, parseMetricsMessage } from '../../../lib/metric-families.ts'
import { within } from '../../../lib/within.ts'

/** Longer than the supervisor waits for a worker. */
const patienceSeconds = 5

/** What this process counts; under a supervisor, what each of its workers does. */
export function createProcesses(collect: () => Promise<Family[]>, onFailure: (error: unknown) => void) {
  if (!cluster.isWorker) return { all: async () => [await collect()], end() {} }
  const asking = new Map<string, (processes: Family[][]) => void>()
  // Without a callback the end of the supervisor would be an error of the process.
  const send = (message: MetricsMessage) => process.send?.(message, undefined, undefined, () => {})

  const onMessage = (received: unknown) => {
    const message = parseMetricsMessage(received)
    if (message?.metrics === 'all') asking.get(message.id)?.(message.processes)
    if (message?.metrics !== 'give') return
    const { id } = message
    // Where that fails, the supervisor goes on with what it knows.
    collect().then((families) => send({ metrics: 'given', id, families }), onFailure)
  }
  process.on('message', onMessage)

  return {
    async all(): Promise<Family[][]> {
      const id = randomUUID()
      const { promise, resolve } = Promise.withResolvers<Family[][]>()
      asking.set(id, resolve)
      try {
        send({ metrics: 'ask', id })
        return await within(patienceSeconds, promise)
      } finally {
        asking.delete(id)
      }
    },
    end(): void {
      process.off('message', onMessage)
    },
  }
}
