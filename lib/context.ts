import { AsyncLocalStorage } from 'node:async_hooks'
import { randomUUID } from 'node:crypto'

/** A symbol, and so no field of the log. */
export const traceparent = Symbol('traceparent')

/** No field of the log either, whose lines a request ID joins with its beginning. */
const work = Symbol('work')

/** Fields that follow the work; named as in the log. */
export interface LogContext {
  readonly request_id: string
  /** The trace that the work is a part of (W3C Trace Context, section 3.2). */
  trace_id?: string
  /** Which part of it, where the service traces and this trace is recorded. */
  span_id?: string
  /** The header that tells the trace to whoever is asked for something (section 3.2). */
  [traceparent]?: string
  /** Who the work is done for. */
  [work]?: { actor: string }
  /** The request that signed the URL which this request opens. */
  origin_request_id?: string
  /** The caller's other request ID, where Backend.AI's header has one beside ours. */
  backend_ai_request_id?: string
  /** The job that the work is an attempt of. */
  readonly job_id?: string
}

const storage = new AsyncLocalStorage<LogContext>()

/**
 * For work that comes with none: a UUID that begins with the time (version 7; RFC 9562, section 5.7), so that rows written
 * one after the other lie side by side in an index. With random ones, the upkeep of the indexes is most of what a row of
 * the audit trail costs.
 */
export function newRequestId(): string {
  const time = Date.now().toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`
}

/** The ID of the request or background work that the calling code runs for. */
export function currentRequestId(): string | undefined {
  return storage.getStore()?.request_id
}

/** The `traceparent` of the work that the calling code does, to be sent with what it asks of others. */
export function currentTraceparent(): string | undefined {
  return storage.getStore()?.[traceparent]
}

/** The context of the work that the calling code does; undefined outside of any work. */
export function currentContext(): LogContext | undefined {
  return storage.getStore()
}

/**
 * Wraps `fn` so that it runs, across all its async boundaries, under a request ID: the one given, else the caller's at
 * the time of the call, else a new UUID.
 */
export function withRequestId<Args extends unknown[], Result>(
  fn: (...args: Args) => Result,
  requestId?: string,
): (...args: Args) => Result {
  return (...args) => {
    const current = storage.getStore()
    if (current !== undefined && (requestId === undefined || requestId === current.request_id)) return fn(...args)
    return storage.run({ request_id: requestId ?? newRequestId() }, () => fn(...args))
  }
}

/** Runs `fn`, across all its async boundaries, in a context of its own. */
export function inContext<Result>(context: LogContext, fn: () => Result): Result {
  return storage.run(context, fn)
}

/** Puts the calling code, and all that follows from it, into a context; for hooks, which have nothing to wrap. */
export function enterContext(context: LogContext): void {
  storage.enterWith(context)
}

/** Says who the calling code works for, or who `context` does. */
export function setActor(actor: string, context = storage.getStore()): void {
  if (context !== undefined) context[work] = { actor }
}

export function actorOf(context: LogContext): string | undefined {
  return context[work]?.actor
}

/** What is the same for all parts of one work, which may have contexts of their own. */
export function workOf(context: LogContext): object {
  return context[work] ?? context
}

const nothing = Object.freeze({})

/**
 * Pino options that put the context into the lines of a logger. Not for a request's own logger, which has its fields
 * bound: a JSON line must not have a key twice.
 */
export const contextLogging = {
  mixin: (): object => storage.getStore() ?? nothing,
  mixinMergeStrategy: (line: object, context: object) => (context === nothing ? line : { ...line, ...context }),
}
