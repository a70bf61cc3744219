import type { Call } from './backend.ts'

export interface AheadOptions<Item, Result> extends Call {
  /** How much may be begun ahead of the result that is waited for. */
  ahead: number
  /** How much an item is of that; absent: each is 1. */
  weigh?(item: Item): number
  /** Gives back a result that nobody takes any more. */
  drop?(result: Result): unknown
}

/**
 * Runs `work` on the items, several at once, and gives the results in the order of the items. When one fails, or the
 * caller takes no more, those begun after it are aborted, and this ends only once they have ended.
 */
export async function* workAhead<Item, Result>(
  items: AsyncIterable<Item>,
  { signal, ahead, weigh = () => 1, drop }: AheadOptions<Item, Result>,
  work: (item: Item, call: Call) => Promise<Result>,
): AsyncGenerator<{ item: Item; result: Result }> {
  const over = new AbortController()
  const call = { signal: AbortSignal.any([signal, over.signal]) }
  const begun: { item: Item; weight: number; result: Promise<Result> }[] = []
  let weight = 0
  try {
    for await (const item of items) {
      const result = work(item, call)
      result.catch(() => {}) // Awaited in its turn; a failure must not count as unhandled until then.
      begun.push({ item, weight: weigh(item), result })
      weight += weigh(item)
      while (weight > ahead) {
        const first = begun.shift()
        if (first === undefined) break
        weight -= first.weight
        yield { item: first.item, result: await first.result }
      }
    }
    for (let first = begun.shift(); first !== undefined; first = begun.shift()) {
      yield { item: first.item, result: await first.result }
    }
  } finally {
    over.abort()
    await Promise.allSettled(begun.map(async ({ result }) => drop?.(await result)))
  }
}
