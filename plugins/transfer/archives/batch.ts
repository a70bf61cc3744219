const batchBytes = 256 * 1024
/** Copying a piece up to this size costs less than a write of its own. */
const maxCopied = 128 * 1024

/**
 * Gathers headers and contents, so that one write has many of them, and counts bytes. A chunk is valid until the next
 * one is asked for.
 */
export class Batch {
  #filling = Buffer.allocUnsafeSlow(batchBytes)
  #given = Buffer.allocUnsafeSlow(batchBytes)
  #length = 0
  #position = 0

  /** Bytes so far. */
  get position(): number {
    return this.#position
  }

  /** Takes `pieces`, but keeps only copies of them; yields the chunks that have to go out now. */
  *add(...pieces: Buffer[]): Generator<Buffer> {
    for (const piece of pieces) {
      this.#position += piece.length
      const passes = piece.length > maxCopied
      if (passes || this.#length + piece.length > batchBytes) yield* this.rest()
      if (passes) yield piece
      else this.#length += piece.copy(this.#filling, this.#length)
    }
  }

  /** Gives what was gathered, if anything. */
  *rest(): Generator<Buffer> {
    if (this.#length === 0) return
    const full = this.#filling
    const length = this.#length
    this.#filling = this.#given
    this.#given = full
    this.#length = 0
    yield full.subarray(0, length)
  }
}
