/**
 * The memory that parts of uploads gather in: so many buffers of one size, made when they are first needed and used
 * again. Who finds none waits for one, in turn.
 */
export class PartBuffers {
  readonly bytes: number
  readonly #limit: number
  readonly #free: Buffer[] = []
  readonly #waiting: ((buffer: Buffer) => void)[] = []
  #made = 0

  constructor(bytes: number, limit: number) {
    this.bytes = bytes
    this.#limit = limit
  }

  async acquire(signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    const free = this.#free.pop()
    if (free !== undefined) return free
    if (this.#made < this.#limit) {
      this.#made++
      return Buffer.allocUnsafeSlow(this.bytes)
    }
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
    const aborted = () => {
      this.#waiting.splice(this.#waiting.indexOf(resolve), 1)
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

  release(buffer: Buffer): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free.push(buffer)
    else next(buffer)
  }
}
