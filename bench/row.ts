/** One line of the bench table: what is measured, and the bound that it must keep. */
export interface Row {
  name: string
  what: string
  bound: Bound
  /** Starts what it needs, and has it stopped again by `cleanup`. */
  measure(bench: Bench): Promise<Measured>
}

/** A ratio is ours divided by the peer's, both measured in turn in the same run. */
export type Bound = { atLeast: number } | { atMost: number } | { belowMiB: number } | { belowMilliseconds: number }

export type Measured = { ours: number; peer: number; unit: string } | { peakMiB: number } | Waits

/** What is bounded, and all that is told of it. */
export interface Waits {
  milliseconds: number
  told: string
}

export interface Bench {
  /** An empty directory on the disk, removed at the end. */
  directory: string
  /** Runs at the end of the row, the last one first. */
  cleanup(fn: () => unknown): void
}

/** Measures ours and the peer in turn, after one round of each that does not count, and gives the medians. */
export async function alternately(
  rounds: number,
  unit: string,
  { ours, peer }: { ours: () => Promise<number>; peer: () => Promise<number> },
): Promise<Measured> {
  const values: { ours: number[]; peer: number[] } = { ours: [], peer: [] }
  await peer()
  await ours()
  for (let round = 0; round < rounds; round++) {
    values.peer.push(await peer())
    values.ours.push(await ours())
  }
  return { ours: median(values.ours), peer: median(values.peer), unit }
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** The value that this share of all is below. */
export function percentile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN
}

export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return (performance.now() - start) / 1000
}
