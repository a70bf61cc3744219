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

/** Parts of one upload (Amazon S3 user guide, "Amazon S3 multipart upload limits"). */
export const maxParts = 10_000

/** Longer than giving up should take anybody; what it leaves is garbage. */
const abortMilliseconds = 10_000

/** A multipart upload: its object appears when it is completed, whole, and not before. */
export class Multipart {
  readonly #bucket: Bucket
  readonly #key: string
  readonly #id: string
  readonly #parts: { PartNumber: number; ETag: string; ChecksumCRC32?: string }[] = []

  private constructor(bucket: Bucket, key: string, id: string) {
    this.#bucket = bucket
    this.#key = key
    this.#id = id
  }

  /** @param options.headers with which the object is to be read, as another one has them */
  static async begin(
    bucket: Bucket,
    key: string,
    options: Call & { metadata?: Record<string, string>; headers?: ObjectHeaders },
  ) {
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
    return new Multipart(bucket, key, id)
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
    await this.#bucket.run(signal, (sending) => this.#bucket.patient.send(command, sending))
  }

  /** Frees its parts, also when the work it was for was aborted. */
  async abort(): Promise<void> {
    await abortMultipart(this.#bucket, this.#key, this.#id, { signal: AbortSignal.timeout(abortMilliseconds) })
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
