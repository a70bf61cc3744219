/**
 * A limited number of things of one kind, made when first needed and used again. A caller that finds none waits its
 * turn.
 */
export class Pool<T> {
  readonly #make: () => T
  readonly #limit: number
  readonly #free: T[] = []
  readonly #waiting: ((item: T) => void)[] = []
  #made = 0

  constructor(make: () => T, limit: number) {
    this.#make = make
    this.#limit = limit
  }

  /** How many are in use. */
  get taken(): number {
    return this.#made - this.#free.length
  }

  /** How many callers wait for one. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** One that is free now, if any. */
  take(): T | undefined {
    const free = this.#free.pop()
    if (free !== undefined || this.#made >= this.#limit) return free
    this.#made++
    return this.#make()
  }

  async acquire(signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const free = this.take()
    if (free !== undefined) return free
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const aborted = () => {
      const place = this.#waiting.indexOf(resolve)
      if (place < 0) return // It is its turn already.
      this.#waiting.splice(place, 1)
      reject(signal.reason)
    }
    this.#waiting.push(resolve)
    signal.addEventListener('abort', aborted, { once: true })
    try {
      return await promise
    } finally {
      signal.removeEventListener('abort', aborted)
    }
  }

  release(item: T): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free.push(item)
    else next(item)
  }
}
