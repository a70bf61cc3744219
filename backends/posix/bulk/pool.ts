import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { FromThread, ToThread } from './messages.ts'

/**
 * Threads for work on whole trees. Such work is a long row of short system calls, and a trip through libuv's thread
 * pool costs several times what the call itself does, and keeps requests waiting. They are started when there is work,
 * serve all volumes, and end after a while without any.
 */
const mostThreads = 16
const idleMilliseconds = 10_000

const file = new URL(`./worker${extname(import.meta.url)}`, import.meta.url)

export interface Listener {
  message(message: FromThread): void
  /** The thread ended, which it never should. */
  ended(error: Error): void
}

export class Thread {
  // Descriptors are opened in one thread and closed in another, and options such as --eval are not for a file.
  readonly #worker = new Worker(file, { trackUnmanagedFds: false, execArgv: [] })
  #listener: Listener | undefined
  #end: NodeJS.Timeout | undefined

  constructor() {
    this.#worker.on('message', (message: FromThread) => this.#listener?.message(message))
    this.#worker.on('error', (error) => this.#ended(error))
    this.#worker.on('exit', () => this.#ended(new Error('a thread of the posix backend ended')))
  }

  /** From now on `listener` is told what comes from the thread; a process with work under way does not end. */
  take(listener: Listener): void {
    clearTimeout(this.#end)
    this.#listener = listener
    this.#worker.ref()
  }

  send(message: ToThread): void {
    this.#worker.postMessage(message)
  }

  rest(): void {
    this.#listener = undefined
    this.#worker.unref()
    this.#end = setTimeout(() => {
      resting.splice(resting.indexOf(this), 1)
      threads--
      this.#worker.removeAllListeners('exit')
      this.#worker.terminate()
    }, idleMilliseconds).unref()
  }

  #ended(error: Error): void {
    this.#worker.removeAllListeners()
    clearTimeout(this.#end)
    threads--
    const at = resting.indexOf(this)
    if (at >= 0) resting.splice(at, 1)
    this.#listener?.ended(error)
    this.#listener = undefined
  }
}

const resting: Thread[] = []
const waiting: ((thread: Thread) => void)[] = []
let threads = 0

/** A thread, as soon as there is one. */
export async function acquire(signal: AbortSignal): Promise<Thread> {
  const thread = acquireNow()
  if (thread !== undefined) return thread
  return new Promise((resolve, reject) => {
    const give = (thread: Thread) => {
      signal.removeEventListener('abort', leave)
      resolve(thread)
    }
    const leave = () => {
      waiting.splice(waiting.indexOf(give), 1)
      reject(signal.reason)
    }
    waiting.push(give)
    signal.addEventListener('abort', leave)
  })
}

/** A thread, unless all have work. */
export function acquireNow(): Thread | undefined {
  const free = resting.pop()
  if (free !== undefined || threads >= mostThreads) return free
  threads++
  return new Thread()
}

export function release(thread: Thread): void {
  const next = waiting.shift()
  if (next === undefined) {
    thread.rest()
    resting.push(thread)
  } else {
    next(thread)
  }
}
