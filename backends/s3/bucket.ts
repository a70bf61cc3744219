import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import {
  CopyObjectCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import type { Call } from '../backend.ts'
import { NotFound, Unavailable } from '../errors.ts'
import { compareBytes } from '../order.ts'
import { Pool } from '../pool.ts'
import { translate } from './errors.ts'
import { StorageClock } from './middlewares/clock.ts'

export interface StoredObject {
  key: string
  size: number
  modifiedAt: Date
  /** Without quotes. */
  etag: string
}

export interface DescribedObject extends StoredObject {
  metadata: Record<string, string>
  headers: ObjectHeaders
}

/** With which the object is read; this backend writes none, others may. */
export type ObjectHeaders = Pick<
  HeadObjectCommandOutput,
  'CacheControl' | 'ContentDisposition' | 'ContentEncoding' | 'ContentLanguage' | 'ContentType'
>

export interface Condition {
  ifAbsent?: boolean
  /** An etag. */
  ifMatch?: string
}

export interface PutOptions extends Call, Condition {
  metadata?: Record<string, string>
}

export interface Page {
  objects: StoredObject[]
  /** With a delimiter: what the keys between two of the objects have in common, each ending in the delimiter. */
  prefixes: string[]
  /** How to ask for the next page: after the last key, as a call after a crash would. */
  next?: Pick<PageOptions, 'after' | 'token'>
}

export interface PageOptions extends Call {
  prefix: string
  delimiter?: string
  /** Only keys after this one. */
  after?: string
  /** Of a page that has no key to go on from, though there are more. */
  token?: string
  limit?: number
}

/** What the last key that begins with a prefix comes before, as good as always. */
export const lastOf = (prefix: string) => `${prefix}\u{10ffff}`

/** Keys that one DeleteObjects takes (Amazon S3's API reference). */
export const deletesAtOnce = 1000

/** The commands on the objects of one bucket, whose errors are those of a backend. */
export class Bucket {
  readonly client: S3Client
  /** For commands that the server works on for long before it answers. */
  readonly patient: S3Client
  readonly clock: StorageClock
  readonly name: string

  readonly #turns: Pool<true>

  constructor(client: S3Client, patient: S3Client, name: string, commandsAtOnce: number) {
    this.client = client
    this.patient = patient
    this.clock = new StorageClock(client)
    this.name = name
    this.#turns = new Pool<true>(() => true, commandsAtOnce)
  }

  /**
   * Runs a command of the SDK, when it is its turn: what waited for a connection instead would run into the time limit of
   * connecting. An aborted one rejects with the reason of its signal.
   */
  async run<T>(signal: AbortSignal, send: (options: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    const turn = await this.#turns.acquire(signal)
    try {
      return await this.#outOfTurn(signal, send)
    } finally {
      this.#turns.release(turn)
    }
  }

  async #outOfTurn<T>(signal: AbortSignal, send: (options: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    try {
      return await send({ abortSignal: signal })
    } catch (error) {
      signal.throwIfAborted()
      throw translate(error)
    }
  }

  /** Rejects with what keeps the objects below `prefix` out of reach. A storage that has much to do is not away. */
  async reach(prefix: string, { signal }: Call): Promise<void> {
    const command = new HeadBucketCommand({ Bucket: this.name })
    try {
      await this.#outOfTurn(signal, (options) => this.client.send(command, options))
    } catch (error) {
      if (error instanceof NotFound) throw new Unavailable(`the bucket ${this.name} does not exist`, { cause: error })
      if (error instanceof Unavailable) throw error
      // The answer to a HEAD has no body, and so no reason; and the key may be good for the prefix only.
      await this.page({ signal, prefix, limit: 1 })
    }
  }

  async head(key: string, { signal }: Call): Promise<DescribedObject | undefined> {
    const command = new HeadObjectCommand({ Bucket: this.name, Key: key })
    try {
      const found = await this.run(signal, (options) => this.client.send(command, options))
      return {
        key,
        size: found.ContentLength ?? 0,
        modifiedAt: found.LastModified ?? new Date(0),
        etag: unquoted(found.ETag),
        metadata: found.Metadata ?? {},
        headers: headersOf(found),
      }
    } catch (error) {
      if (error instanceof NotFound) return undefined
      throw error
    }
  }

  /** Opens a part of the object, which must still have that etag. @throws {NotFound} @throws {PreconditionFailed} */
  async get(
    { key, etag }: Pick<StoredObject, 'key' | 'etag'>,
    { start, end }: { start: number; end: number },
    { signal }: Call,
  ) {
    const command = new GetObjectCommand({
      Bucket: this.name,
      Key: key,
      Range: `bytes=${start}-${end - 1}`,
      IfMatch: `"${etag}"`,
    })
    const { Body: body } = await this.run(signal, (options) => this.client.send(command, options))
    if (!(body instanceof Readable)) throw new Unavailable('the storage answers without the bytes')
    return body
  }

  /** The whole of a small object. */
  async read(key: string, { signal }: Call): Promise<Buffer | undefined> {
    const command = new GetObjectCommand({ Bucket: this.name, Key: key })
    try {
      const { Body: body } = await this.run(signal, (options) => this.client.send(command, options))
      if (!(body instanceof Readable)) throw new Unavailable('the storage answers without the bytes')
      return await buffer(body)
    } catch (error) {
      if (error instanceof NotFound) return undefined
      throw error
    }
  }

  /** @throws {PreconditionFailed} @returns the etag */
  async put(key: string, body: Buffer, { signal, metadata, ifAbsent, ifMatch }: PutOptions): Promise<string> {
    const command = new PutObjectCommand({
      Bucket: this.name,
      Key: key,
      Body: body,
      ContentLength: body.length,
      ...(metadata !== undefined && { Metadata: metadata }),
      ...conditionHeaders({ ifAbsent, ifMatch }),
    })
    return unquoted((await this.run(signal, (options) => this.client.send(command, options))).ETag)
  }

  /** Copies an object of up to 5 GiB. @returns the etag of the copy @throws {NotFound} @throws {PreconditionFailed} */
  async copy({ key, etag }: StoredObject, to: string, { signal }: Call): Promise<string> {
    const command = new CopyObjectCommand({
      Bucket: this.name,
      Key: to,
      CopySource: this.copySource(key),
      CopySourceIfMatch: `"${etag}"`,
    })
    const { CopyObjectResult: copied } = await this.run(signal, (options) => this.patient.send(command, options))
    return unquoted(copied?.ETag)
  }

  copySource(key: string): string {
    return `${this.name}/${key.split('/').map(encodeURIComponent).join('/')}`
  }

  /** Deleting what is not there succeeds. */
  async delete(key: string, { signal }: Call): Promise<void> {
    const command = new DeleteObjectCommand({ Bucket: this.name, Key: key })
    await this.run(signal, (options) => this.client.send(command, options))
  }

  async deleteMany(keys: string[], { signal }: Call): Promise<void> {
    const plain: string[] = []
    for (const key of keys) {
      if (unfitForXml.test(key)) await this.delete(key, { signal })
      else plain.push(key)
    }
    for (let start = 0; start < plain.length; start += deletesAtOnce) {
      const objects = plain.slice(start, start + deletesAtOnce).map((key) => ({ Key: key }))
      const command = new DeleteObjectsCommand({ Bucket: this.name, Delete: { Quiet: true, Objects: objects } })
      const { Errors: [first] = [] } = await this.run(signal, (options) => this.client.send(command, options))
      if (first !== undefined) throw new Unavailable(`the storage could not delete all objects: ${first.Code}`)
    }
  }

  /** One page of keys, in byte order. */
  async page({ signal, prefix, delimiter, after, token, limit }: PageOptions): Promise<Page> {
    const command = new ListObjectsV2Command({
      Bucket: this.name,
      Prefix: prefix,
      // Keys may have characters that XML cannot hold.
      EncodingType: 'url',
      ...(delimiter !== undefined && { Delimiter: delimiter }),
      ...(after !== undefined && { StartAfter: after }),
      ...(token !== undefined && { ContinuationToken: token }),
      ...(limit !== undefined && { MaxKeys: limit }),
    })
    return toPage(await this.run(signal, (options) => this.client.send(command, options)))
  }

  /** All pages; from the third on each is asked for while the caller works on the one before. */
  async *pages({ signal, ...options }: Omit<PageOptions, 'delimiter' | 'limit'>): AsyncGenerator<StoredObject[]> {
    const abandoned = new AbortController()
    const listing = { ...options, signal: AbortSignal.any([signal, abandoned.signal]) }
    try {
      let page = await this.page(listing)
      for (let count = 1; ; count++) {
        const { objects, next } = page
        // Who takes no more than a page of entries needs two at most.
        const ahead = next !== undefined && count > 1 ? this.page({ ...listing, ...next }) : undefined
        ahead?.catch(() => {}) // Awaited in its turn.
        if (objects.length > 0) yield objects
        if (next === undefined) return
        page = await (ahead ?? this.page({ ...listing, ...next }))
      }
    } finally {
      abandoned.abort()
    }
  }

  async *objects(options: Omit<PageOptions, 'delimiter' | 'limit'>): AsyncGenerator<StoredObject> {
    for await (const page of this.pages(options)) yield* page
  }
}

// XML 1.0, section 2.2; and a carriage return would arrive as a line feed (section 2.11).
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones
const unfitForXml = /[\0-\x1f\ufffe\uffff]/

export function conditionHeaders({ ifAbsent, ifMatch }: Condition): { IfNoneMatch?: string; IfMatch?: string } {
  return { ...(ifAbsent && { IfNoneMatch: '*' }), ...(ifMatch !== undefined && { IfMatch: `"${ifMatch}"` }) }
}

function headersOf(found: HeadObjectCommandOutput): ObjectHeaders {
  const { CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, ContentType } = found
  return { CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, ContentType }
}

function toPage({
  Contents = [],
  CommonPrefixes = [],
  IsTruncated: more = false,
  NextContinuationToken: token,
}: ListObjectsV2CommandOutput): Page {
  const objects = Contents.map(({ Key = '', Size = 0, LastModified = new Date(0), ETag }) => ({
    key: decoded(Key),
    size: Size,
    modifiedAt: LastModified,
    etag: unquoted(ETag),
  }))
  const prefixes = CommonPrefixes.map(({ Prefix = '' }) => decoded(Prefix))
  const next = more && nextOf(objects.at(-1)?.key, prefixes.at(-1), token)
  return { objects, prefixes, ...(next && { next }) }
}

function nextOf(key: string | undefined, prefix: string | undefined, token: string | undefined): Page['next'] {
  if (key === undefined && prefix === undefined) return token === undefined ? undefined : { token }
  if (prefix === undefined || (key !== undefined && compareBytes(key, prefix) > 0)) return { after: key ?? '' }
  return { after: lastOf(prefix) }
}

/** Of a listing with `EncodingType: 'url'`, where a space is a plus sign for some servers and `%20` for others. */
export function decoded(text: string): string {
  return /[%+]/.test(text) ? decodeURIComponent(text.replaceAll('+', '%20')) : text
}

export function unquoted(etag = ''): string {
  return etag.replace(/^(?:W\/)?"(.*)"$/, '$1')
}
