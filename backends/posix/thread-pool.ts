import { Worker } from 'node:worker_threads'

const idleMilliseconds = 10_000

export interface Listener<From> {
  message(message: From): void
  /** The thread ended, which it never should. */
  ended(error: Error): void
}

export class Thread<To, From> {
  readonly #worker: Worker
  readonly #removed: () => void
  #listener: Listener<From> | undefined
  #end: NodeJS.Timeout | undefined

  constructor(file: URL, removed: () => void) {
    this.#removed = removed
    // Descriptors are opened in one thread and closed in another, and options such as --eval are not for a file.
    this.#worker = new Worker(file, { trackUnmanagedFds: false, execArgv: [] })
    this.#worker.on('message', (message: From) => this.#listener?.message(message))
    this.#worker.on('error', (error) => this.#ended(error))
    this.#worker.on('exit', () => this.#ended(new Error('a thread of the posix backend ended')))
  }

  /** From now on `listener` is told what comes from the thread; a process with work under way does not end. */
  take(listener: Listener<From>): void {
    clearTimeout(this.#end)
    this.#listener = listener
    this.#worker.ref()
  }

  send(message: To): void {
    this.#worker.postMessage(message)
  }

  rest(): void {
    this.#listener = undefined
    this.#worker.unref()
    this.#end = setTimeout(() => {
      this.#removed()
      this.#worker.removeAllListeners('exit')
      this.#worker.terminate()
    }, idleMilliseconds).unref()
  }

  #ended(error: Error): void {
    this.#worker.removeAllListeners()
    clearTimeout(this.#end)
    this.#removed()
    this.#listener?.ended(error)
    this.#listener = undefined
  }
}

/** Threads that run `file`. They are started when there is work, serve all volumes, and end after a while without any. */
export class ThreadPool<To, From> {
  readonly #file: URL
  readonly #most: number
  readonly #resting: Thread<To, From>[] = []
  readonly #waiting: ((thread: Thread<To, From>) => void)[] = []
  #count = 0

  constructor(file: URL, most: number) {
    this.#file = file
    this.#most = most
  }

  /** A thread, as soon as there is one. */
  async acquire(signal: AbortSignal): Promise<Thread<To, From>> {
    const thread = this.acquireNow()
    if (thread !== undefined) return thread
    return new Promise((resolve, reject) => {
      const give = (thread: Thread<To, From>) => {
        signal.removeEventListener('abort', leave)
        resolve(thread)
      }
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(give), 1)
        reject(signal.reason)
      }
      this.#waiting.push(give)
      signal.addEventListener('abort', leave)
    })
  }

  /** A thread, unless all have work. */
  acquireNow(): Thread<To, From> | undefined {
    const free = this.#resting.pop()
    if (free !== undefined || this.#count >= this.#most) return free
    this.#count++
    const thread: Thread<To, From> = new Thread(this.#file, () => {
      this.#count--
      const at = this.#resting.indexOf(thread)
      if (at >= 0) this.#resting.splice(at, 1)
    })
    return thread
  }

  release(thread: Thread<To, From>): void {
    const next = this.#waiting.shift()
    if (next === undefined) {
      thread.rest()
      this.#resting.push(thread)
    } else {
      next(thread)
    }
  }
}
