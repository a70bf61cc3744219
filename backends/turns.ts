import type { Call } from './backend.ts'
import { Pool } from './pool.ts'

/**
 * Runs the work of this process on one key one after the other: neither S3 nor rename(2) tells what was replaced, so of
 * several at once each would count what it had seen before. Other processes are not held back.
 */
export class Turns {
  readonly #keys = new Map<string, { turn: Pool<true>; users: number }>()

  async run<T>(key: string, { signal }: Call, work: () => Promise<T>): Promise<T> {
    const entry = this.#keys.get(key) ?? { turn: new Pool<true>(() => true, 1), users: 0 }
    this.#keys.set(key, entry)
    entry.users++
    try {
      const turn = await entry.turn.acquire(signal)
      try {
        return await work()
      } finally {
        entry.turn.release(turn)
      }
    } finally {
      if (--entry.users === 0) this.#keys.delete(key)
    }
  }
}
