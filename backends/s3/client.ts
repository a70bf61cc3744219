import { GetObjectCommand, PutObjectCommand, S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import type { PresignOptions } from '../backend.ts'
import type { CreateContext } from '../definition.ts'
import { logCommands } from './middlewares/command-log.ts'
import { parseListings } from './middlewares/list-parser.ts'
import { shortenCopies } from './middlewares/short-copy.ts'
import { signWithoutBody } from './middlewares/sign-without-body.ts'
import { tellTrace } from './middlewares/trace.ts'
import type { S3Options } from './options.ts'

type Context = Pick<CreateContext<S3Options>, 'options' | 'log' | 'onCommand' | 'traceparent'>

/**
 * A client that retries, with jitter (the SDK's standard mode), what was answered 500, 503 or 429, timed out or lost
 * its connection. That is safe for all that this backend sends: bodies are buffers, so they can be sent again, and what
 * must not happen twice is recognized by the write's ID; see `publish.ts`.
 */
export function createClient({ options, log, onCommand, traceparent }: Context, idleTimeoutSeconds: number): S3Client {
  const agent = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY }
  const client = new S3Client({
    ...place(options, options.endpoint),
    maxAttempts: options.maxAttempts,
    requestHandler: {
      connectionTimeout: options.connectTimeoutSeconds * 1000,
      socketTimeout: idleTimeoutSeconds * 1000,
      httpAgent: agent,
      httpsAgent: agent,
    },
  })
  logCommands(client, log, onCommand)
  parseListings(client)
  signWithoutBody(client)
  shortenCopies(client)
  tellTrace(client, traceparent)
  return client
}

/** One that sends nothing, but signs URLs for others to open. */
export function createPresigner(options: S3Options): S3Client {
  const endpoint = options.publicEndpoint ?? options.endpoint
  // Else it would sign a checksum of bytes that it does not know.
  return new S3Client({ ...place(options, endpoint), requestChecksumCalculation: 'WHEN_REQUIRED' })
}

function place(options: S3Options, endpoint: string | undefined): S3ClientConfig {
  const { accessKeyId, secretAccessKey, sessionToken, region } = options
  return {
    region,
    forcePathStyle: options.forcePathStyle ?? endpoint !== undefined,
    ...(endpoint !== undefined && { endpoint }),
    ...(accessKeyId !== undefined &&
      secretAccessKey !== undefined && {
        credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
      }),
  }
}

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
