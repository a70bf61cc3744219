import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Family, type MetricsMessage, parseMetricsMessage, toFamilies } from '../lib/metric-families.ts'
import type { Worker } from './worker.ts'

/** A worker that takes longer is busy: what it told last stands for it. */
const patienceMilliseconds = 2000

/**
 * What the workers count. A count never shrinks, which Prometheus would take for a new start: what a worker told last
 * stays when it has ended.
 */
export function createCounted(workers: ReadonlySet<Worker>) {
  const last = new Map<Worker, Family[]>()
  const asking = new Map<string, (families: Family[]) => void>()
  let ofEnded: Promise<Family[]> = Promise.resolve([])

  async function ask(worker: Worker): Promise<void> {
    const id = randomUUID()
    const { promise, resolve } = Promise.withResolvers<Family[]>()
    asking.set(id, resolve)
    worker.send({ metrics: 'give', id } satisfies MetricsMessage)
    const gone = Promise.race([worker.ended, sleep(patienceMilliseconds)])
    const families = await Promise.race([promise, gone.then(() => undefined)])
    asking.delete(id)
    if (families !== undefined && workers.has(worker)) last.set(worker, families)
  }

  async function answer(asker: Worker, id: string): Promise<void> {
    await Promise.all([...workers].filter(({ listens }) => listens).map(ask))
    const processes = [...last.values(), await ofEnded]
    asker.send({ metrics: 'all', id, processes } satisfies MetricsMessage)
  }

  return {
    /** Takes what the worker says, until it has ended. */
    follow(worker: Worker): void {
      worker.onMessage((received) => {
        const message = parseMetricsMessage(received)
        if (message?.metrics === 'ask') answer(worker, message.id)
        if (message?.metrics === 'given') asking.get(message.id)?.(message.families)
      })
      worker.ended.then(() => {
        const families = last.get(worker)
        last.delete(worker)
        if (families !== undefined) ofEnded = ofEnded.then((before) => addUp([before, families]).catch(() => before))
      })
    },
  }
}

/** Of what has ended only what was counted stays, and none of what was so just then. */
async function addUp(processes: Family[][]): Promise<Family[]> {
  // Loaded only now: it is seldom needed here.
  const { AggregatorRegistry } = await import('prom-client')
  const families = toFamilies(await AggregatorRegistry.aggregate(processes).getMetricsAsJSON())
  return families.filter(({ type }) => type === 'counter' || type === 'histogram')
}
