import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import type { FastifyBaseLogger } from 'fastify'
import { logCommands } from './command-log.ts'
import { parseListings } from './list-parser.ts'
import type { S3Options } from './options.ts'
import { shortenCopies } from './short-copy.ts'

/** Commands whose body is a file's bytes. */
const withBytes = new Set(['PutObjectCommand', 'UploadPartCommand'])

/**
 * A client that retries, with jitter (the SDK's standard mode), what was answered 500, 503 or 429, timed out or lost
 * its connection. That is safe for all that this backend sends: bodies are buffers, so they can be sent again, and what
 * must not happen twice is recognized by the write's ID; see `write.ts`.
 */
export function createClient(options: S3Options, log: FastifyBaseLogger, idleTimeoutSeconds: number): S3Client {
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
  logCommands(client, log)
  parseListings(client)
  signWithoutBody(client)
  shortenCopies(client)
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

/**
 * Hashing every byte with SHA-256 to sign it costs more than all else that is done with it. The CRC-32 that the SDK adds
 * tells a broken body, TLS a forged one.
 */
function signWithoutBody(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const { request } = args
      if (withBytes.has(String(context.commandName)) && typeof request === 'object' && request !== null) {
        if ('headers' in request) Object.assign(request.headers ?? {}, { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' })
      }
      return next(args)
    },
    { step: 'build', name: 'signWithoutBody' },
  )
}
