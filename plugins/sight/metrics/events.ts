import type { FastifyInstance } from 'fastify'
import { deliveryEnded } from '../../work/events/notices.ts'
import { Gauge, Histogram } from './instruments.ts'
import type { Meters } from './meters.ts'

const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60]

/** The events that this process tells. */
export function countDeliveries(meters: Meters): void {
  const deliveries = meters.add(
    new Histogram({
      name: 'storage_proxy_event_delivery_duration_seconds',
      help: 'Deliveries of events by whether they were taken, and how long that took.',
      labels: ['target', 'end'],
      bounds,
    }),
  )
  meters.until(deliveryEnded.take((target, end, _events, seconds) => deliveries.of(target, end).observe(seconds)))
}

/** What the database knows of those who are told. */
export async function lookAtEvents(meters: Meters, { events, database }: FastifyInstance): Promise<void> {
  const labels = ['target']
  const name = (what: string) => `storage_proxy_events_${what}`
  const undelivered = meters.add(
    new Gauge({
      name: name('undelivered'),
      help: 'Events that a target has not taken, without those given up.',
      labels,
    }),
  )
  const oldest = meters.add(
    new Gauge({
      name: name('oldest_undelivered_seconds'),
      help: 'How long ago the oldest of them happened; 0 where there is none.',
      labels,
    }),
  )
  const dead = meters.add(new Gauge({ name: name('dead'), help: 'Events that were given up.', labels }))
  for (const state of (await events.telling?.inspection.states()) ?? []) {
    undelivered.of(state.name).value = state.undelivered
    dead.of(state.name).value = state.dead
    const { oldestUndelivered: since } = state
    oldest.of(state.name).value = since === undefined ? 0 : Math.max(0, (database.now() - since) / 1000)
  }
}
