/**
 * What a room tells of its work to whoever wants to know, such as the metrics. The room does not know who listens, and to
 * tell costs next to nothing when nobody does. A listener never throws.
 */
export class Notice<Facts extends unknown[]> {
  readonly #listeners = new Set<(...facts: Facts) => void>()

  give(...facts: Facts): void {
    for (const listener of this.#listeners) listener(...facts)
  }

  /** @returns what ends it */
  take(listener: (...facts: Facts) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

/** Who follows a piece of work, from where it is begun to its end. */
export interface Follower {
  /** Does the work as the one that is followed, across all its async boundaries. */
  run<T>(work: () => T): T
  /** @param failure how it failed, as a short word, if it did */
  end(failure?: string): void
}

/** A notice that work begins, which one listener may follow; most often nobody does. */
export class Beginning<Facts extends unknown[]> {
  #listener: ((...facts: Facts) => Follower | undefined) | undefined

  give(...facts: Facts): Follower | undefined {
    return this.#listener?.(...facts)
  }

  /** @returns what ends it */
  take(listener: (...facts: Facts) => Follower | undefined): () => void {
    this.#listener = listener
    return () => {
      this.#listener = undefined
    }
  }
}
