import type { S3Client } from '@aws-sdk/client-s3'

/**
 * Sends the trace that the work is a part of. Not signed: what is in front of a server, such as the proxies of a service
 * mesh, writes its own part of the trace in its place.
 */
export function tellTrace(client: S3Client, traceparent: () => string | undefined = () => undefined): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const { request } = args
      const header = traceparent()
      if (header !== undefined && typeof request === 'object' && request !== null && 'headers' in request) {
        Object.assign(request.headers ?? {}, { traceparent: header })
      }
      return next(args)
    },
    // After the signature.
    { step: 'finalizeRequest', priority: 'low', name: 'tellTrace' },
  )
}
