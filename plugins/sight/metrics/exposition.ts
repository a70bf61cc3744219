import { AggregatorRegistry, Registry, type RegistryContentType } from 'prom-client'
import type { Exemplar, Family } from '../../../lib/metric-families.ts'

export const formats = { text: Registry.PROMETHEUS_CONTENT_TYPE, openMetrics: Registry.OPENMETRICS_CONTENT_TYPE }
export type Format = keyof typeof formats

/** The sum of what the processes count, as Prometheus reads it. */
export async function toText(processes: Family[][], format: Format): Promise<string> {
  const named = processes.map((families) => families.map((family) => prepare(family, format)))
  const registry = AggregatorRegistry.aggregate<RegistryContentType>(named)
  registry.setContentType(formats[format])
  if (format === 'openMetrics') await addExemplars(registry, named)
  return registry.metrics()
}

function prepare(family: Family, format: Format): Family {
  const { name, type, aggregator } = family
  return {
    ...family,
    // What it adds itself.
    name: format === 'openMetrics' && type === 'counter' ? name.replace(/_total$/, '') : name,
    // The time of the start: a sum would be none.
    aggregator: aggregator === 'omit' ? 'max' : aggregator,
  }
}

/** prom-client forgets them when it adds up: of each sample the latest one stays. */
async function addExemplars(registry: Registry<RegistryContentType>, processes: Family[][]): Promise<void> {
  const latest = new Map<string, Exemplar>()
  for (const sample of processes.flat().flatMap(({ values }) => values)) {
    if (sample.exemplar === undefined) continue
    const before = latest.get(keyOf(sample))
    if (before === undefined || before.timestamp < sample.exemplar.timestamp) {
      latest.set(keyOf(sample), sample.exemplar)
    }
  }
  for (const { values } of await registry.getMetricsAsJSON()) {
    for (const value of values) {
      const exemplar = latest.get(keyOf(value))
      if (exemplar !== undefined) Object.assign(value, { exemplar })
    }
  }
}

function keyOf({ metricName = '', labels }: { metricName?: string; labels: object }): string {
  return metricName + JSON.stringify(labels)
}
