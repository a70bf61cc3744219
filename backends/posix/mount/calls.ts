import { descriptorIn } from '../descriptors.ts'

/**
 * How many system calls on one mount are in the kernel at once. Each holds a thread of libuv's pool until the kernel
 * answers, and nothing calls it back: the pool has so many threads for each mount (`threads.ts`).
 */
export const mostCalls = 16

interface Waiting {
  start(): void
  refuse?(error: Error): void
}

/**
 * The share of the thread pool that one mount has. A call that has none waits in line, and is refused once the mount is
 * found to hang; one that is in the kernel keeps its place until the kernel answers.
 */
export class MountCalls {
  readonly #waiting: Waiting[] = []
  /** Calls in the kernel. */
  #begun = 0
  #refusal: Error | undefined

  get isIdle(): boolean {
    return this.#begun === 0 && this.#waiting.length === 0
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#refusal !== undefined) return Promise.reject(this.#refusal)
    if (this.#begun < mostCalls) return this.#begin(work)
    return new Promise((resolve, reject) => {
      const start = () => this.#begin(work).then(resolve, reject)
      this.#waiting.push({ start, refuse: reject })
    })
  }

  /** For what must be done in any case, such as to close a file: it waits however long the mount hangs. */
  runSurely(work: () => Promise<void>): void {
    const start = () => void this.#begin(work).catch(() => {})
    if (this.#refusal === undefined && this.#begun < mostCalls) start()
    else this.#waiting.push({ start })
  }

  /** Refuses the calls that wait, and all others until `resume`. */
  refuse(error: Error): void {
    this.#refusal = error
    for (const waiting of this.#waiting.splice(0)) {
      if (waiting.refuse === undefined) this.#waiting.push(waiting)
      else waiting.refuse(error)
    }
  }

  resume(): void {
    this.#refusal = undefined
    this.#startNext()
  }

  async #begin<T>(work: () => Promise<T>): Promise<T> {
    this.#begun++
    try {
      return await work()
    } finally {
      this.#begun--
      this.#startNext()
    }
  }

  #startNext(): void {
    if (this.#refusal !== undefined) return
    while (this.#begun < mostCalls) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      next.start()
    }
  }
}

/** The open descriptors that are on a mount, with its places. */
const held = new Map<number, MountCalls>()

/** From now on what is done with the descriptor, and with paths that lead through it, takes a place. */
export function hold(fd: number, calls: MountCalls): void {
  held.set(fd, calls)
}

export function letGo(fd: number): void {
  held.delete(fd)
}

/** Whose places a call takes: of what is opened through a descriptor on a mount, those of that mount. */
export function callsOf(target: string | number): MountCalls | undefined {
  if (held.size === 0) return undefined
  const fd = typeof target === 'number' ? target : descriptorIn(target)
  return fd === undefined ? undefined : held.get(fd)
}
