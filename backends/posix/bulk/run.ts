import { parentPort } from 'node:worker_threads'
import { errnoOf } from '../errno.ts'
import type { Failure } from '../failure.ts'
import { type FromThread, givesWay, idle, type News, type Share, stopped } from './messages.ts'

const newsMilliseconds = 250
/** How long to work, and then to rest, while requests keep the process busy. */
const workMilliseconds = 5
const restMilliseconds = 100
const changedPaths = 100

/** Ends the work of a thread whose task was aborted or failed elsewhere. */
export class Stopped extends Error {}

/** What was worked on did not rest for as long as that took. */
export class Restless extends Error {}

/** An error, and the entry it is about. */
class EntryError extends Error {
  readonly path: string

  constructor(path: string, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.path = path
  }
}

/** What one thread reports about its share of a task, and what it is told. */
export class Run {
  readonly #state: Int32Array
  readonly #isAside: boolean
  #news: News = createNews()
  #toldAt = performance.now()
  #restedAt = performance.now()
  #checks = 0

  constructor(state: Int32Array, isAside = false) {
    this.#state = state
    this.#isAside = isAside
  }

  /** For work on the side, which stops with this one but is not counted, told or shared. */
  createAside(): Run {
    return new Run(this.#state, true)
  }

  /** To be called at every entry. */
  check(): void {
    if (Atomics.load(this.#state, stopped) !== 0) throw new Stopped()
    if (++this.#checks % 16 !== 0) return
    const now = performance.now()
    if (!this.#isAside && now - this.#toldAt > newsMilliseconds) this.#tell()
    if (now - this.#restedAt > workMilliseconds) this.#rest()
  }

  #rest(): void {
    if (Atomics.load(this.#state, givesWay) !== 0) Atomics.wait(this.#state, givesWay, 1, restMilliseconds)
    this.#restedAt = performance.now()
  }

  count(files: number, bytes: number): void {
    this.#news.files += files
    this.#news.bytes += bytes
  }

  tellChanged(path: string): void {
    if (this.#news.changed.length < changedPaths) this.#news.changed.push(path)
    this.#news.changedCount++
  }

  countLeft(): void {
    this.#news.left++
  }

  /** Whether another thread waits for a share. */
  anotherWaits(): boolean {
    return !this.#isAside && Atomics.load(this.#state, idle) > 0
  }

  /** Gives a part of the work to the thread that waits, unless one of the others was quicker. */
  give(makeShare: () => Share): void {
    const waiting = Atomics.load(this.#state, idle)
    if (waiting > 0 && Atomics.compareExchange(this.#state, idle, waiting, waiting - 1) === waiting) {
      send({ kind: 'share', share: makeShare() })
    }
  }

  finish(error?: unknown): void {
    const failure = error === undefined || error instanceof Stopped ? undefined : failureOf(error)
    send({ kind: 'done', news: this.#news, ...(failure && { failure }) })
  }

  #tell(): void {
    send({ kind: 'news', news: this.#news })
    this.#news = createNews()
    this.#toldAt = performance.now()
  }
}

/** Adds the path of its entry to an error that does not have one yet. */
export function withPath(error: unknown, path: string): unknown {
  return error instanceof Stopped || error instanceof EntryError ? error : new EntryError(path, error)
}

function failureOf(error: unknown): Failure {
  const cause = error instanceof EntryError ? error.cause : error
  return {
    message: error instanceof Error ? error.message : String(error),
    path: error instanceof EntryError ? error.path : '',
    errno: errnoOf(cause),
    sourceChanged: cause instanceof Restless,
  }
}

function createNews(): News {
  return { files: 0, bytes: 0, changed: [], changedCount: 0, left: 0 }
}

function send(message: FromThread): void {
  parentPort?.postMessage(message)
}
