import { collectDefaultMetrics, Registry } from 'prom-client'
import { type Family, toFamilies } from '../../../lib/metric-families.ts'
import manifest from '../../../package.json' with { type: 'json' }
import { Counter, Gauge } from './instruments.ts'
import type { Meters } from './meters.ts'

/** The process itself: what it is, and how busy. */
export function countRuntime(meters: Meters): void {
  const build = meters.add(
    new Gauge({
      name: 'storage_proxy_build_info',
      help: 'Always 1: the version of the service, and of Node.',
      labels: ['version', 'node'],
      aggregator: 'max',
    }),
  )
  build.of(manifest.version, process.versions.node).value = 1
  const processes = meters.add(
    new Gauge({ name: 'storage_proxy_processes', help: 'How many processes these numbers are the sum of.' }),
  )
  processes.of().value = 1

  const loop = new Counter({
    name: 'storage_proxy_event_loop_seconds_total',
    help: 'Time that the event loop was active, and was idle; the share of the active one is its utilisation.',
    labels: ['state'],
    look: () => {
      const { active, idle } = performance.eventLoopUtilization()
      loop.of('active').value = active / 1000
      loop.of('idle').value = idle / 1000
    },
  })
  meters.add(loop)
}

/** The delay of the event loop, memory, garbage collection and what else prom-client looks at. */
export function watchNode(): () => Promise<Family[]> {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  // By the names that it gives them these gauges would be counters; the same is told by type.
  for (const what of ['resources', 'handles', 'requests']) registry.removeSingleMetric(`nodejs_active_${what}_total`)
  return async () => toFamilies(await registry.getMetricsAsJSON())
}
