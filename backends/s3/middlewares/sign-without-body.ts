import type { S3Client } from '@aws-sdk/client-s3'

/** Commands whose body is a file's bytes. */
const withBytes = new Set(['PutObjectCommand', 'UploadPartCommand'])

/**
 * Hashing every byte with SHA-256 to sign it costs more than all else that is done with it. The CRC-32 that the SDK adds
 * tells a broken body, TLS a forged one. Bench row `s3-upload`.
 */
export function signWithoutBody(client: S3Client): void {
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
