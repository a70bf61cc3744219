import { performance } from 'node:perf_hooks'
import type { FastifyBaseLogger } from 'fastify'
import type { Backend } from '../backend.ts'

/** What the strings that a call is given are, in their order. */
const fieldsOf: Partial<Record<string, string[]>> = {
  move: ['folder', 'path', 'target'],
  copy: ['folder', 'path', 'target'],
  symlink: ['folder', 'path', 'target'],
  clone: ['folder', 'target_folder'],
  beginUpload: ['folder', 'upload_id'],
  appendUpload: ['folder', 'upload_id'],
  readUpload: ['folder', 'upload_id'],
  completeUpload: ['folder', 'upload_id', 'path'],
  abortUpload: ['folder', 'upload_id'],
  presignUpload: ['folder', 'upload_id'],
} satisfies Partial<Record<keyof Backend, string[]>>
const usualFields = ['folder', 'path']

/**
 * Logs every call of a backend at level `debug`, with how it ended and how long it took; the request ID comes from the
 * context that the call is made in. A listing ends when nobody takes more of it, and has the `count` of its entries. A
 * capability that is absent stays absent.
 */
export function withCallLog(backend: Backend, log: FastifyBaseLogger): Backend {
  return new Proxy(backend, {
    get(target, operation) {
      const member: unknown = Reflect.get(target, operation)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        const call = describe(String(operation), args)
        log.debug(call, 'storage call')
        const started = performance.now()
        const ended = (outcome: object, message: string) =>
          log.debug({ ...call, ...outcome, duration_ms: Math.round(performance.now() - started) }, message)
        const result: unknown = Reflect.apply(member, target, args)
        if (isAsyncIterable(result)) return untilEnded(result, ended)
        if (result instanceof Promise) {
          result.then(
            () => ended({}, 'storage call done'),
            (err) => ended({ err }, 'storage call failed'),
          )
        }
        return result
      }
    },
  })
}

function describe(operation: string, args: unknown[]): Record<string, unknown> {
  const fields = fieldsOf[operation] ?? usualFields
  const strings = args.filter((arg) => typeof arg === 'string')
  const options = args.find(isOptions)
  return {
    operation,
    ...(options?.path !== undefined && { path: options.path }),
    ...(options?.toFolder !== undefined && { target_folder: options.toFolder }),
    ...Object.fromEntries(strings.map((string, index) => [fields[index], string])),
  }
}

function isOptions(arg: unknown): arg is { path?: unknown; toFolder?: unknown } {
  return typeof arg === 'object' && arg !== null && 'signal' in arg
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}

async function* untilEnded(
  entries: AsyncIterable<unknown>,
  ended: (outcome: object, message: string) => void,
): AsyncGenerator<unknown> {
  let count = 0
  let failure: { err: unknown } | undefined
  try {
    for await (const entry of entries) {
      count++
      yield entry
    }
  } catch (err) {
    failure = { err }
    throw err
  } finally {
    ended({ count, ...failure }, failure === undefined ? 'storage call done' : 'storage call failed')
  }
}
