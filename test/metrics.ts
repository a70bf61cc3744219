import assert from 'node:assert/strict'
import type { Server } from './server.ts'

export const openMetrics = 'application/openmetrics-text; version=1.0.0'

/** What a scrape has, as Prometheus would read it. */
export class Scrape {
  readonly text: string
  readonly #samples = new Map<string, number>()

  constructor(text: string) {
    this.text = text
    for (const line of text.split('\n')) {
      const [, series, value] = /^([^#\s][^{\s]*(?:\{.*?\})?) (\S+)/.exec(line) ?? []
      if (series !== undefined) this.#samples.set(series, Number(value))
    }
  }

  /** The names with their labels. */
  get series(): string[] {
    return [...this.#samples.keys()]
  }

  /** The sum of all samples of that name that have these labels. */
  sum(name: string, labels: Record<string, string> = {}): number {
    const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
    const fits = (series: string) => series.replace(/\{.*/, '') === name && wanted.every((one) => series.includes(one))
    return [...this.#samples].reduce((sum, [series, value]) => (fits(series) ? sum + value : sum), 0)
  }
}

export async function scrape(server: Pick<Server, 'managerUrl'>, accept = 'text/plain'): Promise<Scrape> {
  const response = await fetch(`${server.managerUrl}/metrics`, { headers: { accept } })
  assert.equal(response.status, 200)
  return new Scrape(await response.text())
}
