import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Call } from '../backend.ts'
import { BackendError } from '../errors.ts'
import type { Bucket, Condition } from './bucket.ts'
import { Multipart } from './multipart.ts'

/** Which preconditions the server decides itself, in the same step that makes the object appear. */
interface Kept {
  ifAbsent: boolean
  ifMatch: boolean
}

const nothing = Buffer.alloc(0)

/**
 * What the server makes of a precondition: Amazon S3 keeps them all, other servers keep some and silently ignore the
 * rest (of Ceph 16, an `If-None-Match: *` counts for PutObject only). So it is tried out, when one is first needed. What
 * the server does not keep is checked right before.
 */
export class Conditions {
  readonly #bucket: Bucket
  readonly #probes: string
  readonly #log: FastifyBaseLogger
  #ofPut: Promise<Kept> | undefined
  #ofMultipart: Promise<Kept> | undefined

  /** @param probes what the keys of objects begin with that are written for a try */
  constructor(bucket: Bucket, probes: string, log: FastifyBaseLogger) {
    this.#bucket = bucket
    this.#probes = probes
    this.#log = log
  }

  /** What of a condition can be left to PutObject. */
  async forPut(condition: Condition, call: Call): Promise<Condition> {
    if (isEmpty(condition)) return {}
    this.#ofPut ??= this.#once('PutObject', (key) => this.#tryPut(key, call))
    return restrict(
      condition,
      await this.#ofPut.catch((error) => {
        this.#ofPut = undefined
        throw error
      }),
    )
  }

  /** What of a condition can be left to CompleteMultipartUpload. */
  async forMultipart(condition: Condition, call: Call): Promise<Condition> {
    if (isEmpty(condition)) return {}
    this.#ofMultipart ??= this.#once('CompleteMultipartUpload', (key) => this.#tryMultipart(key, call))
    return restrict(
      condition,
      await this.#ofMultipart.catch((error) => {
        this.#ofMultipart = undefined
        throw error
      }),
    )
  }

  async #once(command: string, attempt: (key: string) => Promise<Kept>): Promise<Kept> {
    const kept = await attempt(this.#probes + randomUUID())
    const fields = { s3_command: command, if_absent: kept.ifAbsent, if_match: kept.ifMatch }
    this.#log.info(fields, 'preconditions that the storage itself keeps')
    return kept
  }

  async #tryPut(key: string, { signal }: Call): Promise<Kept> {
    const put = (condition: Condition) => this.#bucket.put(key, nothing, { signal, ...condition })
    try {
      const etag = await put({})
      return {
        ifAbsent: !(await works(() => put({ ifAbsent: true }))),
        ifMatch: (await works(() => put({ ifMatch: etag }))) && !(await works(() => put({ ifMatch: 'another' }))),
      }
    } finally {
      await this.#bucket.delete(key, { signal })
    }
  }

  async #tryMultipart(key: string, { signal }: Call): Promise<Kept> {
    const complete = async (condition: Condition) => {
      const upload = await Multipart.begin(this.#bucket, key, { signal })
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
      const etag = (await this.#bucket.head(key, { signal }))?.etag
      return {
        ifAbsent: !(await works(() => complete({ ifAbsent: true }))),
        ifMatch:
          (await works(() => complete({ ...(etag !== undefined && { ifMatch: etag }) }))) &&
          !(await works(() => complete({ ifMatch: 'another' }))),
      }
    } finally {
      await this.#bucket.delete(key, { signal })
    }
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

/** A server that is away is no answer. */
async function works(attempt: () => Promise<unknown>): Promise<boolean> {
  try {
    await attempt()
    return true
  } catch (error) {
    if (error instanceof BackendError && error.code !== 'precondition_failed') throw error
    return false
  }
}
