import { Worker } from 'node:worker_threads'

const idleMilliseconds = 10_000
const patienceMilliseconds = 1000

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
    this.#worker = new Worker(file, {
      trackUnmanagedFds: false,
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb: 1 },
    })
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

export interface ThreadPoolOptions {
  /** So many are started as soon as there is work for them. */
  usual: number
  /** So many once somebody has waited for long: the volume that the others work on may hang. */
  most: number
}

/** Threads that run `file`. They are started when there is work, serve all volumes, and end after a while without any. */
export class ThreadPool<To, From> {
  readonly #file: URL
  readonly #options: ThreadPoolOptions
  readonly #resting: Thread<To, From>[] = []
  readonly #waiting: ((thread: Thread<To, From>) => void)[] = []
  #count = 0

  constructor(file: URL, options: ThreadPoolOptions) {
    this.#file = file
    this.#options = options
  }

  /** A thread, as soon as there is one. */
  async acquire(signal: AbortSignal): Promise<Thread<To, From>> {
    const thread = this.acquireNow()
    if (thread !== undefined) return thread
    return new Promise((resolve, reject) => {
      const give = (thread: Thread<To, From>) => {
        clearTimeout(patience)
        signal.removeEventListener('abort', abort)
        resolve(thread)
      }
      const leave = () => this.#waiting.splice(this.#waiting.indexOf(give), 1)
      const abort = () => {
        clearTimeout(patience)
        leave()
        reject(signal.reason)
      }
      const patience = setTimeout(() => {
        if (this.#count >= this.#options.most) return
        leave()
        give(this.#start())
      }, patienceMilliseconds)
      this.#waiting.push(give)
      signal.addEventListener('abort', abort)
    })
  }

  /** A thread, unless all of the usual ones have work. */
  acquireNow(): Thread<To, From> | undefined {
    return this.#resting.pop() ?? (this.#count < this.#options.usual ? this.#start() : undefined)
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

  #start(): Thread<To, From> {
    this.#count++
    const thread: Thread<To, From> = new Thread(this.#file, () => {
      this.#count--
      const at = this.#resting.indexOf(thread)
      if (at >= 0) this.#resting.splice(at, 1)
    })
    return thread
  }
}
