import type { Backend } from '../backend.ts'
import { BackendError } from '../errors.ts'

export type Operation = Exclude<keyof Backend, 'limits' | 'trash' | 'folderOf'>

/** Whether what it gives is iterated over, step by step. */
export function isList(operation: Operation): boolean {
  return operation === 'list' || operation === 'listMany' || operation === 'listFolders'
}

/** How many a step of a list has given; undefined when it was the last step. */
export function entriesIn(outcome: PromiseSettledResult<unknown>): number | undefined {
  if (outcome.status === 'rejected') return undefined
  const { value: step } = outcome
  if (typeof step !== 'object' || step === null || ('done' in step && step.done === true)) return undefined
  return 'value' in step && Array.isArray(step.value) ? step.value.length : 1
}

/** What a call is about. */
export interface Names {
  folder?: string | undefined
  path?: string | undefined
  target?: string | undefined
  toFolder?: string | undefined
  upload?: string | undefined
}

/** Something that a call works with, to be released as soon as the backend lets go of it. */
interface Held {
  release(): Promise<unknown> | undefined
}

/** Who follows a call from its begin to its end. */
export interface CallFollower {
  /** Asks the backend as the one that is followed. */
  run<T>(work: () => T): T
  /** @param failure how it failed, by `failureOf` */
  end(failure?: string): void
}

/** A call of a backend, as the layers see it. */
export class BackendCall {
  readonly operation: Operation
  readonly names: Names
  /** By `performance.now()`. */
  readonly begunAt = performance.now()
  /** The bytes that the call stores, if it takes any. */
  source: Source | undefined
  follower: CallFollower | undefined
  readonly #given: AbortSignal | undefined
  #own: AbortController | undefined
  #signal: AbortSignal | undefined
  #abandoned: { reason: unknown; released: Promise<unknown> } | undefined
  #held: Held[] | undefined

  constructor(operation: Operation, names: Names, signal?: AbortSignal) {
    this.operation = operation
    this.names = names
    this.#given = signal
  }

  /** Aborts with the signal that the caller gave, and when the call is abandoned. Made on demand: few calls need it. */
  get signal(): AbortSignal {
    if (this.#signal === undefined) {
      const own = new AbortController()
      if (this.#abandoned !== undefined) own.abort(this.#abandoned.reason)
      this.#own = own
      this.#signal = this.#given === undefined ? own.signal : AbortSignal.any([this.#given, own.signal])
    }
    return this.#signal
  }

  /** Set once nobody waits for the backend any more. `released` resolves when it has let go of what it worked on. */
  get abandoned(): { reason: unknown; released: Promise<unknown> } | undefined {
    return this.#abandoned
  }

  /** Aborts the signal, and lets go of what the call holds, as soon as the backend does. */
  abandon(reason: unknown): void {
    if (this.#abandoned !== undefined) return
    const { promise: released, resolve } = Promise.withResolvers()
    this.#abandoned = { reason, released }
    this.#own?.abort(reason)
    resolve(Promise.allSettled(this.#held?.map(async (held) => held.release()) ?? []))
  }

  hold(held: Held): void {
    this.#held ??= []
    this.#held.push(held)
  }

  /**
   * The backend gets the caller's options behind a proxy with this handler: so the signal is the call's own, and costs
   * nothing where nobody looks at it, as when a small file is read (bench row `download-4k`).
   */
  get<O extends object>(options: O, member: string | symbol): unknown {
    return member === 'signal' ? this.signal : Reflect.get(options, member)
  }
}

/** The bytes that a call takes, as they are; it keeps count of when the backend waits for them. */
export class Source implements AsyncIterable<Buffer>, AsyncIterator<Buffer> {
  /** The backend has asked for a chunk that has not come yet. */
  isAwaited = false
  chunks = 0
  hasEnded = false
  /** An error of the source itself, which is no failure of the backend. */
  failure: { error: unknown } | undefined
  readonly #call: BackendCall
  readonly #chunks: AsyncIterable<Buffer>
  #iterator: AsyncIterator<Buffer> | undefined

  constructor(call: BackendCall, chunks: AsyncIterable<Buffer>) {
    this.#call = call
    this.#chunks = chunks
    call.hold(this)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<Buffer>> {
    const { abandoned } = this.#call
    if (abandoned !== undefined) return Promise.reject(abandoned.reason)
    this.#iterator ??= this.#chunks[Symbol.asyncIterator]()
    this.isAwaited = true
    const asked = this.#iterator.next()
    asked.then(this.#came, this.#failed)
    return asked
  }

  async return(): Promise<IteratorResult<Buffer>> {
    await this.#iterator?.return?.()
    return { done: true, value: undefined }
  }

  release(): Promise<unknown> | undefined {
    return this.#iterator?.return?.()
  }

  readonly #came = ({ done = false }: IteratorResult<Buffer>) => {
    this.isAwaited = false
    this.hasEnded = done
    this.chunks++
  }

  readonly #failed = (error: unknown) => {
    this.isAwaited = false
    this.hasEnded = true
    this.failure = { error }
  }
}

/**
 * How a call failed: the code of its `BackendError`; or `source`, when what it was to store failed; `timeout` or `aborted`,
 * when the caller had no more time, or gave it up; or `internal_error`.
 */
export function failureOf(call: BackendCall, reason: unknown): string {
  if (call.source?.failure?.error === reason) return 'source'
  if (reason instanceof BackendError) return reason.code
  if (reason instanceof DOMException && reason.name === 'TimeoutError') return 'timeout'
  return call.signal.aborted ? 'aborted' : 'internal_error'
}
