import type { Call } from '../backend.ts'
import { Pool } from '../pool.ts'

/** How far others may get ahead of a slow item, in times of `atOnce`. */
const window = 8

interface Begun<Item, Result> {
  item: Item
  /** Undefined as long as it is under way. */
  outcome?: { result: Result }
  ended: Promise<void>
}

/**
 * Runs `work` on each item, several at once, and calls `done` in the order of the items, so that one position says how
 * far all of them are done. When it settles none is under way any more.
 * @param list gives the items; its signal, as that of `work`, aborts with the first failure
 */
export async function eachInOrder<Item, Result>(
  list: (call: Call) => AsyncIterable<Item> | Iterable<Item>,
  atOnce: number,
  { signal }: Call,
  work: (item: Item, call: Call) => Promise<Result>,
  done: (item: Item, result: Result) => void = () => {},
): Promise<void> {
  const failed = new AbortController()
  const either = AbortSignal.any([signal, failed.signal])
  const turns = new Pool(() => true, atOnce)
  const begun: Begun<Item, Result>[] = []

  const run = async (entry: Omit<Begun<Item, Result>, 'ended'>) => {
    try {
      entry.outcome = { result: await work(entry.item, { signal: either }) }
      for (let first = begun[0]; first?.outcome !== undefined; first = begun[0]) {
        begun.shift()
        done(first.item, first.outcome.result)
      }
    } catch (error) {
      failed.abort(error)
    } finally {
      turns.release(true)
    }
  }

  try {
    for await (const item of list({ signal: either })) {
      await turns.acquire(either)
      const entry: Begun<Item, Result> = { item, ended: Promise.resolve() }
      begun.push(entry)
      entry.ended = run(entry)
      if (begun.length >= window * atOnce) await begun[0]?.ended
      either.throwIfAborted()
    }
  } catch (error) {
    failed.abort(error)
  } finally {
    await Promise.all(begun.map(({ ended }) => ended))
  }
  either.throwIfAborted()
}
