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
      // Each has a heap of its own, and what these make is garbage at once.
      resourceLimits: { maxYoungGenerationSizeMb: 1 },
    })
    this.#worker.on('message', (message: From) => this.#listener?.message(message))
    this.#worker.on('error', (error) => this.#ended(error))
    this.#worker.on('exit', () => this.#ended(new Error('a thread ended')))
  }

  /** From now on `listener` is told what comes from the thread; a process with work under way does not end. */
  take(listener: Listener<From>): void {
    clearTimeout(this.#end)
    this.#listener = listener
    this.#worker.ref()
  }

  send(message: To, transferred: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transferred)
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
  /** So many once a caller has waited for long: the volume that the other threads work on may hang. */
  most: number
}

interface Waiting<To, From> {
  give(thread: Thread<To, From>): void
  fail(error: unknown): void
}

/**
 * Gives the threads that run `file`: those that all volumes share, or for an owner, such as a mount that may hang, its
 * own.
 */
export function createThreadPools<To, From>(file: URL, shared: ThreadPoolOptions, own: ThreadPoolOptions) {
  const pool = new ThreadPool<To, From>(file, shared)
  const owned = new WeakMap<object, ThreadPool<To, From>>()
  return (owner?: object): ThreadPool<To, From> => {
    if (owner === undefined) return pool
    const known = owned.get(owner) ?? new ThreadPool<To, From>(file, own)
    owned.set(owner, known)
    return known
  }
}

/** Threads that run `file`. They are started when there is work, serve all volumes, and end after a while without any. */
export class ThreadPool<To, From> {
  readonly #file: URL
  readonly #options: ThreadPoolOptions
  readonly #resting: Thread<To, From>[] = []
  readonly #waiting: Waiting<To, From>[] = []
  #count = 0

  constructor(file: URL, options: ThreadPoolOptions) {
    this.#file = file
    this.#options = options
  }

  /** A thread, as soon as there is one. Rejects when there is none and none can be started. */
  async acquire(signal: AbortSignal): Promise<Thread<To, From>> {
    return this.acquireNow() ?? this.#wait(signal)
  }

  /** A thread, unless all of the usual ones have work or no further one can be started. */
  acquireNow(): Thread<To, From> | undefined {
    const resting = this.#resting.pop()
    if (resting !== undefined || this.#count >= this.#options.usual) return resting
    try {
      return this.#start()
    } catch {
      return undefined
    }
  }

  release(thread: Thread<To, From>): void {
    const next = this.#waiting.shift()
    if (next === undefined) {
      thread.rest()
      this.#resting.push(thread)
    } else {
      next.give(thread)
    }
  }

  /** Asks a thread that was acquired one question that it answers once, and takes it back. Rejects when it ends. */
  ask(thread: Thread<To, From>, question: To): Promise<From> {
    const { promise, resolve, reject } = Promise.withResolvers<From>()
    thread.take({
      message: (answer) => {
        this.release(thread)
        resolve(answer)
      },
      ended: reject,
    })
    thread.send(question)
    return promise
  }

  #wait(signal: AbortSignal): Promise<Thread<To, From>> {
    const { promise, resolve, reject } = Promise.withResolvers<Thread<To, From>>()
    const abort = () => {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1)
      waiting.fail(signal.reason)
    }
    const settled = () => {
      clearInterval(patience)
      signal.removeEventListener('abort', abort)
    }
    const waiting: Waiting<To, From> = {
      give(thread) {
        settled()
        resolve(thread)
      },
      fail(error) {
        settled()
        reject(error)
      },
    }
    const patience = setInterval(() => this.#startForFirst(), patienceMilliseconds)
    signal.addEventListener('abort', abort)
    this.#waiting.push(waiting)
    return promise
  }

  #startForFirst(): void {
    if (this.#count >= this.#options.most) return
    const first = this.#waiting.shift()
    try {
      first?.give(this.#start())
    } catch (error) {
      // Those at work come back.
      if (first !== undefined && this.#count > 0) this.#waiting.unshift(first)
      else first?.fail(error)
    }
  }

  #start(): Thread<To, From> {
    const thread: Thread<To, From> = new Thread(this.#file, () => {
      this.#count--
      const at = this.#resting.indexOf(thread)
      if (at >= 0) this.#resting.splice(at, 1)
    })
    this.#count++
    return thread
  }
}
