import { GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import type { PresignOptions } from '../backend.ts'

/** Signs URLs, which takes no command of the storage. */
export class Presigner {
  readonly #client: S3Client
  readonly #bucket: string
  readonly #amazon: boolean

  /** @param amazon says that the server is Amazon S3, which has a rule of its own for header fields */
  constructor(client: S3Client, bucket: string, amazon: boolean) {
    this.#client = client
    this.#bucket = bucket
    this.#amazon = amazon
  }

  async download(key: string, options: PresignOptions): Promise<string> {
    const { contentType, contentDisposition, expiresInSeconds } = options
    const command = new GetObjectCommand({
      Bucket: this.#bucket,
      Key: key,
      ResponseContentType: contentType,
      ResponseContentDisposition: this.#amazon ? latin1(contentDisposition) : contentDisposition,
    })
    return getSignedUrl(this.#client, command, { expiresIn: expiresInSeconds })
  }

  /** For a PUT of exactly so many bytes: the length is signed. */
  async upload(key: string, bytes: number, expiresInSeconds: number): Promise<string> {
    const command = new PutObjectCommand({ Bucket: this.#bucket, Key: key, ContentLength: bytes })
    return getSignedUrl(this.#client, command, { expiresIn: expiresInSeconds })
  }

  close(): void {
    this.#client.destroy()
  }
}

/** Amazon S3 writes header fields in ISO-8859-1 and refuses all else; so the bytes of UTF-8 go as such characters. */
function latin1(text: string): string {
  return Buffer.from(text).toString('latin1')
}
