import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import type { Call } from '../backend.ts'
import { Unavailable, UploadNotFound } from '../errors.ts'
import {
  type Bucket,
  type Condition,
  conditionHeaders,
  type ObjectHeaders,
  type StoredObject,
  unquoted,
} from './bucket.ts'
import type { Keys } from './layout.ts'
import { keepTouching } from './touch.ts'

/** Parts of one upload (Amazon S3 user guide, "Amazon S3 multipart upload limits"). */
export const maxParts = 10_000

/** Longer than giving up should take anybody; what it leaves is garbage. */
const abortMilliseconds = 10_000

const nothing = Buffer.alloc(0)

export interface MultipartStore {
  bucket: Bucket
  keys: Keys
  /** See `Store`. */
  touchMilliseconds: number
}

/** What is touched while somebody works on the upload: its parts do not tell, where one waits or takes its time. */
export function aliveKey(keys: Keys, id: string): string {
  return keys.lock('multipart', id)
}

/**
 * A multipart upload: its object appears when it is completed, whole, and not before. It is to be ended by `complete`, or
 * by `abort` where that fails.
 */
export class Multipart {
  readonly #bucket: Bucket
  readonly #key: string
  readonly #id: string
  readonly #parts: { PartNumber: number; ETag: string; ChecksumCRC32?: string }[] = []

  readonly #aliveKey: string
  readonly #stopTouching: () => Promise<void>
  #touched = false

  private constructor({ bucket, keys, touchMilliseconds }: MultipartStore, key: string, id: string) {
    this.#bucket = bucket
    this.#key = key
    this.#id = id
    this.#aliveKey = aliveKey(keys, id)
    this.#stopTouching = keepTouching(touchMilliseconds, async (call) => {
      this.#touched = true
      await bucket.put(this.#aliveKey, nothing, call)
    })
  }

  /** @param options.headers with which the object is to be read, as another one has them */
  static async begin(
    store: MultipartStore,
    key: string,
    options: Call & { metadata?: Record<string, string>; headers?: ObjectHeaders },
  ) {
    const { bucket } = store
    const { signal, metadata, headers } = options
    const command = new CreateMultipartUploadCommand({
      Bucket: bucket.name,
      Key: key,
      // That of the parts: a server that checks it wants to know from the beginning.
      ChecksumAlgorithm: 'CRC32',
      ...headers,
      ...(metadata !== undefined && { Metadata: metadata }),
    })
    const { UploadId: id } = await bucket.run(signal, (sending) => bucket.client.send(command, sending))
    if (id === undefined) throw new Unavailable('the storage gives no ID of a multipart upload')
    return new Multipart(store, key, id)
  }

  get #named() {
    return { Bucket: this.#bucket.name, Key: this.#key, UploadId: this.#id }
  }

  /** Stores a part, in the place of one of that number. */
  async put(number: number, body: Buffer, { signal }: Call): Promise<void> {
    const command = new UploadPartCommand({
      ...this.#named,
      PartNumber: number,
      Body: body,
      ContentLength: body.length,
    })
    const { ETag, ChecksumCRC32 } = await this.#bucket.run(signal, (sending) =>
      this.#bucket.client.send(command, sending),
    )
    this.#keep(number, ETag, ChecksumCRC32)
  }

  /** Makes a part of an object's bytes. @throws {NotFound} @throws {PreconditionFailed} */
  async copy(
    number: number,
    { key, etag }: Pick<StoredObject, 'key' | 'etag'>,
    { start, end, signal }: Call & { start: number; end: number },
  ): Promise<void> {
    const command = new UploadPartCopyCommand({
      ...this.#named,
      PartNumber: number,
      CopySource: this.#bucket.copySource(key),
      CopySourceIfMatch: `"${etag}"`,
      CopySourceRange: `bytes=${start}-${end - 1}`,
    })
    const { CopyPartResult: copied } = await this.#bucket.run(signal, (sending) =>
      this.#bucket.patient.send(command, sending),
    )
    this.#keep(number, copied?.ETag, copied?.ChecksumCRC32)
  }

  #keep(number: number, etag: string | undefined, checksum: string | undefined): void {
    if (etag === undefined) throw new Unavailable('the storage gives no ETag of a part')
    this.#parts[number - 1] = {
      PartNumber: number,
      ETag: `"${unquoted(etag)}"`,
      ...(checksum !== undefined && { ChecksumCRC32: checksum }),
    }
  }

  /** @throws {PreconditionFailed} @throws {UploadNotFound} when it was completed or aborted before */
  async complete({ signal, ...condition }: Call & Condition): Promise<void> {
    const command = new CompleteMultipartUploadCommand({
      ...this.#named,
      MultipartUpload: { Parts: this.#parts },
      ...conditionHeaders(condition),
    })
    try {
      await this.#bucket.run(signal, (sending) => this.#bucket.patient.send(command, sending))
    } finally {
      await this.#end()
    }
  }

  /** Frees its parts, also when the work it was for was aborted. */
  async abort(): Promise<void> {
    try {
      await abortMultipart(this.#bucket, this.#key, this.#id, { signal: AbortSignal.timeout(abortMilliseconds) })
    } finally {
      await this.#end()
    }
  }

  async #end(): Promise<void> {
    await this.#stopTouching()
    if (!this.#touched) return
    this.#touched = false
    // What is left is removed by the cleanup.
    await this.#bucket.delete(this.#aliveKey, { signal: AbortSignal.timeout(abortMilliseconds) }).catch(() => {})
  }
}

/** Aborting one that does not exist succeeds. */
export async function abortMultipart(bucket: Bucket, key: string, id: string, { signal }: Call): Promise<void> {
  const command = new AbortMultipartUploadCommand({ Bucket: bucket.name, Key: key, UploadId: id })
  await bucket
    .run(signal, (sending) => bucket.client.send(command, sending))
    .catch((error) => {
      if (!(error instanceof UploadNotFound)) throw error
    })
}
