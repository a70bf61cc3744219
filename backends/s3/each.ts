import type { Call } from '../backend.ts'

/**
 * Runs `work` on each item, several at once, and calls `done` in the order of the items, so that one position says how
 * far all of them are done.
 */
export async function eachInOrder<Item, Result>(
  items: AsyncIterable<Item>,
  atOnce: number,
  { signal }: Call,
  work: (item: Item, call: Call) => Promise<Result>,
  done: (item: Item, result: Result) => void,
): Promise<void> {
  const failed = new AbortController()
  const either = AbortSignal.any([signal, failed.signal])
  const begun: { item: Item; result: Promise<Result> }[] = []
  const finishFirst = async () => {
    const first = begun.shift()
    if (first !== undefined) done(first.item, await first.result)
  }
  try {
    for await (const item of items) {
      either.throwIfAborted()
      const result = work(item, { signal: either })
      result.catch((error) => failed.abort(error)) // Awaited in its turn.
      begun.push({ item, result })
      if (begun.length >= atOnce) await finishFirst()
    }
    while (begun.length > 0) await finishFirst()
  } catch (error) {
    failed.abort(error)
    throw error
  } finally {
    await Promise.allSettled(begun.map(({ result }) => result))
  }
}
