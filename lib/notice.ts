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
