import { constants } from 'node:fs'
import type { Call, OnProgress } from '../../backend.ts'
import { toError } from '../failure.ts'
import { close, open } from '../files.ts'
import { pathOf } from '../inside.ts'
import { callsOf, letGo } from '../mount/calls.ts'
import { watchLoad } from './load.ts'
import { type FromThread, givesWay, idle, type News, type Share, stopped, type Work } from './messages.ts'
import { type BulkThread, threadsFor } from './pool.ts'

/** Threads for one task: more would leave nothing for others, and a filesystem does not get much faster by them. */
const threadsPerTask = 2
/** After this time a task is not a small one, and gets its further threads. */
const smallMilliseconds = 10
const changedPaths = 100

export interface TaskOptions extends Call {
  onProgress?: OnProgress | undefined
}

/**
 * Lets threads work through the tree of `share`, whose descriptors stay the caller's. Rejects when a thread fails or the
 * signal aborts, but not before all threads have stopped.
 */
export async function runTask(work: Work, share: Share, { signal, onProgress }: TaskOptions): Promise<News> {
  try {
    signal.throwIfAborted()
    const threads = threadsFor(callsOf(share.fds[0] ?? -1))
    const first = await threads.acquire(signal)
    return await new Task(work, threads, signal, onProgress).run(first, share)
  } catch (error) {
    if (signal.aborted) throw signal.reason
    throw error
  }
}

type Threads = ReturnType<typeof threadsFor>

class Task {
  readonly #work: Work
  readonly #threads: Threads
  readonly #signal: AbortSignal
  readonly #onProgress: OnProgress | undefined
  readonly #state = new Int32Array(new SharedArrayBuffer(12))
  readonly #idle: BulkThread[] = []
  readonly #shares: Share[] = []
  readonly #total: News = { files: 0, bytes: 0, changed: [], changedCount: 0, left: 0 }
  readonly #finished = Promise.withResolvers<News>()
  #running = 0
  #failure: unknown

  constructor(work: Work, threads: Threads, signal: AbortSignal, onProgress: OnProgress | undefined) {
    this.#work = work
    this.#threads = threads
    this.#signal = signal
    this.#onProgress = onProgress
  }

  async run(first: BulkThread, share: Share): Promise<News> {
    const stop = () => Atomics.store(this.#state, stopped, 1)
    this.#signal.addEventListener('abort', stop)
    this.#join(first)
    this.#begin(share).catch((error) => {
      this.#fail(error)
      this.#next()
    })
    const more = setTimeout(() => this.#joinMore(), smallMilliseconds)
    const unwatch = watchLoad((isBusy) => {
      // Only a count gives way: somebody waits for a clone, and a removal that is slower than the writers would fill
      // the volume.
      Atomics.store(this.#state, givesWay, isBusy && this.#work.kind === 'usage' ? 1 : 0)
    })
    try {
      return await this.#finished.promise
    } finally {
      clearTimeout(more)
      unwatch()
      this.#signal.removeEventListener('abort', stop)
      for (const thread of this.#idle) this.#threads.release(thread)
      this.#onProgress?.(this.#total)
    }
  }

  async #begin({ fds, ...share }: Share): Promise<void> {
    const own: number[] = []
    try {
      for (const fd of fds) own.push(await duplicate(fd))
    } catch (error) {
      for (const fd of own) close(fd)
      throw error
    }
    this.#shares.push({ ...share, fds: own })
    this.#next()
  }

  #joinMore(): void {
    for (let count = 1; count < threadsPerTask; count++) {
      const thread = this.#threads.acquireNow()
      if (thread === undefined) return
      this.#join(thread)
      Atomics.add(this.#state, idle, 1)
    }
  }

  #join(thread: BulkThread): void {
    thread.take({
      message: (message) => this.#receive(thread, message),
      ended: (error) => {
        const at = this.#idle.indexOf(thread)
        if (at >= 0) this.#idle.splice(at, 1)
        else this.#running--
        this.#fail(error)
        this.#next()
      },
    })
    this.#idle.push(thread)
  }

  #receive(thread: BulkThread, message: FromThread): void {
    if (message.kind === 'share') {
      this.#shares.push(message.share)
    } else {
      this.#add(message.news)
    }
    if (message.kind === 'done') {
      this.#running--
      this.#idle.push(thread)
      if (message.failure !== undefined) this.#fail(toError(message.failure))
      if (this.#shares.length === 0) Atomics.add(this.#state, idle, 1)
    }
    this.#next()
  }

  /** Gives shares to threads without work, and finishes when there are none and no thread is at work. */
  #next(): void {
    for (let share = this.#shares.pop(); share !== undefined; share = this.#shares.pop()) {
      const thread = this.#failure === undefined ? this.#idle.pop() : undefined
      if (thread !== undefined) {
        this.#running++
        thread.send({ work: this.#work, share, state: this.#state })
      } else if (this.#failure !== undefined) {
        for (const fd of share.fds) close(fd)
      } else {
        this.#shares.push(share)
        return
      }
    }
    if (this.#running > 0) return
    if (this.#signal.aborted) this.#finished.reject(this.#signal.reason)
    else if (this.#failure !== undefined) this.#finished.reject(this.#failure)
    else this.#finished.resolve(this.#total)
  }

  #fail(error: unknown): void {
    this.#failure ??= error
    Atomics.store(this.#state, stopped, 1)
  }

  #add({ files, bytes, changed, changedCount, left }: News): void {
    this.#total.files += files
    this.#total.bytes += bytes
    this.#total.changed.push(...changed.slice(0, changedPaths - this.#total.changed.length))
    this.#total.changedCount += changedCount
    this.#total.left += left
    this.#onProgress?.({ files: this.#total.files, bytes: this.#total.bytes })
  }
}

/** A descriptor for a thread to close; the caller's stays its own. */
async function duplicate(fd: number): Promise<number> {
  const own = await open(pathOf(fd), constants.O_RDONLY | constants.O_DIRECTORY)
  letGo(own)
  return own
}
