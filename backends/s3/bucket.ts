import { Readable } from 'node:stream'
import {
  CopyObjectCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import type { Call } from '../backend.ts'
import { NotFound, Unavailable } from '../errors.ts'
import { translate } from './errors.ts'
import { Pool } from './pool.ts'

export interface StoredObject {
  key: string
  size: number
  modifiedAt: Date
  /** Without quotes. */
  etag: string
}

export interface DescribedObject extends StoredObject {
  metadata: Record<string, string>
}

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
  /** There are more. */
  truncated: boolean
}

export interface PageOptions extends Call {
  prefix: string
  delimiter?: string
  /** Only keys after this one. */
  after?: string
  limit?: number
}

/** Keys that one DeleteObjects takes (Amazon S3's API reference). */
export const deletesAtOnce = 1000

/** The commands on the objects of one bucket, whose errors are those of a backend. */
export class Bucket {
  readonly client: S3Client
  readonly name: string

  readonly #turns: Pool<true>

  constructor(client: S3Client, name: string, commandsAtOnce: number) {
    this.client = client
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
      return await send({ abortSignal: signal })
    } catch (error) {
      signal.throwIfAborted()
      throw translate(error)
    } finally {
      this.#turns.release(turn)
    }
  }

  /** Rejects with what keeps the objects below `prefix` out of reach. */
  async reach(prefix: string, { signal }: Call): Promise<void> {
    const command = new HeadBucketCommand({ Bucket: this.name })
    try {
      await this.run(signal, (options) => this.client.send(command, options))
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
    const { CopyObjectResult: copied } = await this.run(signal, (options) => this.client.send(command, options))
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
  async page({ signal, prefix, delimiter, after, limit }: PageOptions): Promise<Page> {
    const command = new ListObjectsV2Command({
      Bucket: this.name,
      Prefix: prefix,
      // Keys may have characters that XML cannot hold.
      EncodingType: 'url',
      ...(delimiter !== undefined && { Delimiter: delimiter }),
      ...(after !== undefined && { StartAfter: after }),
      ...(limit !== undefined && { MaxKeys: limit }),
    })
    return toPage(await this.run(signal, (options) => this.client.send(command, options)))
  }

  /** All pages. Each one goes on from the last key of the one before, as a call after a crash would. */
  async *pages(options: Omit<PageOptions, 'delimiter' | 'limit'>): AsyncGenerator<StoredObject[]> {
    let { after } = options
    for (;;) {
      const page = await this.page({ ...options, ...(after !== undefined && { after }) })
      if (page.objects.length > 0) yield page.objects
      after = page.objects.at(-1)?.key
      if (!page.truncated || after === undefined) return
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

function toPage({ Contents = [], CommonPrefixes = [], IsTruncated = false }: ListObjectsV2CommandOutput): Page {
  return {
    objects: Contents.map(({ Key = '', Size = 0, LastModified = new Date(0), ETag }) => ({
      key: decoded(Key),
      size: Size,
      modifiedAt: LastModified,
      etag: unquoted(ETag),
    })),
    prefixes: CommonPrefixes.map(({ Prefix = '' }) => decoded(Prefix)),
    truncated: IsTruncated,
  }
}

/** Of a listing with `EncodingType: 'url'`, where a space is a plus sign for some servers and `%20` for others. */
export function decoded(text: string): string {
  return /[%+]/.test(text) ? decodeURIComponent(text.replaceAll('+', '%20')) : text
}

export function unquoted(etag = ''): string {
  return etag.replace(/^(?:W\/)?"(.*)"$/, '$1')
}
