import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Call } from '../backend.ts'
import { BackendError, PreconditionFailed } from '../errors.ts'
import type { Condition } from './bucket.ts'
import { CommandRefused } from './errors.ts'
import { Multipart, type MultipartStore } from './multipart.ts'

/** Which preconditions the server decides itself, in the same step that makes the object appear. */
interface Kept {
  ifAbsent: boolean
  ifMatch: boolean
}

const nothing = Buffer.alloc(0)
const tryMilliseconds = 60_000

interface KeptBy {
  put: Kept
  multipart: Kept
}

/**
 * What the server makes of a precondition: Amazon S3 keeps them all, other servers keep some and silently ignore the
 * rest (of Ceph 16, an `If-None-Match: *` counts for PutObject only). So it is tried out, when one is first needed. What
 * the server does not keep is checked right before, by one writer of a file at a time; see `lock.ts`.
 */
export class Conditions {
  readonly #store: MultipartStore
  readonly #log: FastifyBaseLogger
  #kept: Promise<KeptBy> | undefined

  constructor(store: MultipartStore, log: FastifyBaseLogger) {
    this.#store = store
    this.#log = log
  }

  /** What of a condition can be left to PutObject. */
  async forPut(condition: Condition, call: Call): Promise<Condition> {
    return isEmpty(condition) ? {} : restrict(condition, (await this.#keptBy(call)).put)
  }

  /** What of a condition can be left to CompleteMultipartUpload. */
  async forMultipart(condition: Condition, call: Call): Promise<Condition> {
    return isEmpty(condition) ? {} : restrict(condition, (await this.#keptBy(call)).multipart)
  }

  /** Whether the server keeps a condition in whatever way a file is written. */
  async areKept(condition: Condition, call: Call): Promise<boolean> {
    const { put, multipart } = await this.#keptBy(call)
    const { ifAbsent = false, ifMatch } = condition
    const absent = put.ifAbsent && multipart.ifAbsent
    const match = put.ifMatch && multipart.ifMatch
    return (absent || !ifAbsent) && (match || ifMatch === undefined)
  }

  /** All who need to know share one try, which none of them aborts for the others. */
  async #keptBy({ signal }: Call): Promise<KeptBy> {
    this.#kept ??= this.#tryOut({ signal: AbortSignal.timeout(tryMilliseconds) })
    try {
      return await this.#kept
    } catch (error) {
      this.#kept = undefined
      throw error
    } finally {
      signal.throwIfAborted()
    }
  }

  async #tryOut(call: Call): Promise<KeptBy> {
    const { probes } = this.#store.keys
    const [put, multipart] = await Promise.all([
      this.#tryPut(probes + randomUUID(), call),
      this.#tryMultipart(probes + randomUUID(), call),
    ])
    this.#log.info({ put_object: put, complete_multipart_upload: multipart }, 'preconditions that the storage keeps')
    return { put, multipart }
  }

  async #tryPut(key: string, { signal }: Call): Promise<Kept> {
    const put = (condition: Condition) => this.#store.bucket.put(key, nothing, { signal, ...condition })
    try {
      const etag = await put({})
      return {
        ifAbsent: await isRefused(() => put({ ifAbsent: true })),
        ifMatch: (await works(() => put({ ifMatch: etag }))) && (await isRefused(() => put({ ifMatch: 'another' }))),
      }
    } finally {
      await this.#remove(key, { signal })
    }
  }

  async #tryMultipart(key: string, { signal }: Call): Promise<Kept> {
    const complete = async (condition: Condition) => {
      const upload = await Multipart.begin(this.#store, key, { signal })
      try {
        await upload.put(1, nothing, { signal })
        await upload.complete({ signal, ...condition })
      } catch (error) {
        await upload.abort()
        throw error
      }
    }
    try {
      await complete({})
      const etag = (await this.#store.bucket.head(key, { signal }))?.etag
      return {
        ifAbsent: await isRefused(() => complete({ ifAbsent: true })),
        ifMatch:
          (await works(() => complete({ ...(etag !== undefined && { ifMatch: etag }) }))) &&
          (await isRefused(() => complete({ ifMatch: 'another' }))),
      }
    } finally {
      await this.#remove(key, { signal })
    }
  }

  /** What cannot be removed now is garbage. */
  async #remove(key: string, call: Call): Promise<void> {
    await this.#store.bucket.delete(key, call).catch(() => {})
  }
}

function isEmpty({ ifAbsent, ifMatch }: Condition): boolean {
  return !ifAbsent && ifMatch === undefined
}

function restrict({ ifAbsent, ifMatch }: Condition, kept: Kept): Condition {
  return {
    ...(kept.ifAbsent && ifAbsent && { ifAbsent }),
    ...(kept.ifMatch && ifMatch !== undefined && { ifMatch }),
  }
}

/** Whether the server does it; one that is away gives no answer. */
async function works(attempt: () => Promise<unknown>): Promise<boolean> {
  try {
    await attempt()
    return true
  } catch (error) {
    if (!isAnswer(error)) throw error
    return false
  }
}

/** Whether the precondition fails, as it must; a server may as well say that it knows no such precondition. */
async function isRefused(attempt: () => Promise<unknown>): Promise<boolean> {
  try {
    await attempt()
    return false
  } catch (error) {
    if (!isAnswer(error)) throw error
    return error instanceof PreconditionFailed
  }
}

/** Anything else says nothing of preconditions. */
function isAnswer(error: unknown): boolean {
  return !(error instanceof BackendError) || error instanceof PreconditionFailed || error instanceof CommandRefused
}
