import type { Exemplar, Family, Labels, Sample } from '../../../lib/metric-families.ts'

/** The longest label set of an exemplar, names and values together (OpenMetrics 1.0, "Exemplars"). */
const longestExemplar = 128
const exemplarLabel = 'request_id'

interface Named {
  name: string
  help: string
  labels?: readonly string[]
  /** Is called before the values are read. */
  look?: () => void
}

/** Something that gives a family of samples when it is asked. */
export interface Instrument {
  collect(): Family
}

/**
 * Counts by labels, whose children are plain objects, so that to count costs an addition; prom-client would look for the
 * child by its labels each time.
 */
abstract class Labelled<Child> implements Instrument {
  protected readonly named: Named
  readonly #children = new Map<string, { labels: Labels; child: Child }>()

  constructor(named: Named) {
    this.named = named
  }

  /** The child with these values of the labels, in their order. */
  of(...values: string[]): Child {
    const key = values.join('\n')
    const known = this.#children.get(key)
    if (known !== undefined) return known.child
    const names = this.named.labels ?? []
    const labels = Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']))
    const child = this.create()
    this.#children.set(key, { labels, child })
    return child
  }

  protected abstract create(): Child

  protected samples(toSamples: (labels: Labels, child: Child) => Sample[]): Sample[] {
    this.named.look?.()
    // What has no labels is told of from the beginning.
    if ((this.named.labels ?? []).length === 0) this.of()
    return [...this.#children.values()].flatMap(({ labels, child }) => toSamples(labels, child))
  }

  abstract collect(): Family
}

class Count {
  value = 0

  add(amount = 1): void {
    this.value += amount
  }
}

/** Only grows. */
export class Counter extends Labelled<Count> {
  protected create(): Count {
    return new Count()
  }

  collect(): Family {
    const { name, help } = this.named
    const values = this.samples((labels, { value }) => [{ labels, value }])
    return { name, help, type: 'counter', aggregator: 'sum', values }
  }
}

class Level {
  value = 0
}

interface GaugeOptions extends Named {
  /** How those of several processes become one. */
  aggregator?: Family['aggregator']
}

/** What may grow and shrink. */
export class Gauge extends Labelled<Level> {
  readonly #options: GaugeOptions

  constructor(options: GaugeOptions) {
    super(options)
    this.#options = options
  }

  protected create(): Level {
    return new Level()
  }

  collect(): Family {
    const { name, help, aggregator = 'sum' } = this.#options
    const values = this.samples((labels, { value }) => [{ labels, value }])
    return { name, help, type: 'gauge', aggregator, values }
  }
}

/** Durations in seconds; each of its buckets remembers the latest request that fell into it. */
export class Distribution {
  readonly counts: number[]
  readonly exemplars: (Exemplar | undefined)[]
  sum = 0
  readonly #bounds: readonly number[]

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0)
    this.exemplars = Array.from({ length: bounds.length + 1 }, () => undefined)
  }

  observe(seconds: number, requestId?: string): void {
    const at = this.#bucketOf(seconds)
    this.counts[at] = (this.counts[at] ?? 0) + 1
    this.sum += seconds
    // A part of an ID would be another one.
    if (requestId === undefined || exemplarLabel.length + requestId.length > longestExemplar) return
    const exemplar = this.exemplars[at]
    if (exemplar === undefined) {
      this.exemplars[at] = { labelSet: { [exemplarLabel]: requestId }, value: seconds, timestamp: Date.now() / 1000 }
    } else {
      exemplar.labelSet[exemplarLabel] = requestId
      exemplar.value = seconds
      exemplar.timestamp = Date.now() / 1000
    }
  }

  #bucketOf(seconds: number): number {
    const bounds = this.#bounds
    let at = 0
    while (at < bounds.length && seconds > (bounds[at] ?? 0)) at++
    return at
  }
}

/** Distributions of durations, in buckets up to `bounds`. */
export class Histogram extends Labelled<Distribution> {
  readonly #bounds: readonly number[]

  constructor({ bounds, ...named }: Named & { bounds: readonly number[] }) {
    super(named)
    this.#bounds = bounds
  }

  protected create(): Distribution {
    return new Distribution(this.#bounds)
  }

  collect(): Family {
    const { name, help } = this.named
    const values = this.samples((labels, child) => this.#samplesOf(labels, child))
    return { name, help, type: 'histogram', aggregator: 'sum', values }
  }

  #samplesOf(labels: Labels, { counts, exemplars, sum }: Distribution): Sample[] {
    const { name } = this.named
    let total = 0
    const buckets = counts.map((count, index) => {
      total += count
      const le = this.#bounds[index]?.toString() ?? '+Inf'
      const exemplar = exemplars[index]
      const bucket = { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total }
      return exemplar === undefined ? bucket : { ...bucket, exemplar }
    })
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: total },
    ]
  }
}
