import cors from '@fastify/cors'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { requestIdHeader } from './request-id.ts'

/** The paths that signed URLs lead to; each is a scope of its own. */
export const clientPrefixes = ['/download/', '/upload/'] as const

const exposedHeaders = [
  requestIdHeader,
  'Accept-Ranges',
  'Content-Disposition',
  'Content-Length',
  'Content-Range',
  'ETag',
  'Last-Modified',
  'Location',
  'Repr-Digest',
  'Retry-After',
  'Tus-Checksum-Algorithm',
  'Tus-Extension',
  'Tus-Max-Size',
  'Tus-Resumable',
  'Tus-Version',
  'Upload-Concat',
  'Upload-Defer-Length',
  'Upload-Expires',
  'Upload-Length',
  'Upload-Metadata',
  'Upload-Offset',
]

/** Lets pages read an error that came before the hooks of a client's routes: a bad URL, or a header refused for all. */
export function letPagesRead({ server, url, headers }: FastifyRequest, reply: FastifyReply): void {
  if (!clientPrefixes.some((prefix) => url.startsWith(prefix))) return
  const { corsOrigins } = server.config
  const { origin } = headers
  reply.header('access-control-expose-headers', exposedHeaders.join(', '))
  if (corsOrigins !== '*') reply.header('vary', 'Origin')
  const allowed = corsOrigins === '*' ? '*' : corsOrigins.find((one) => one === origin)
  if (allowed !== undefined) reply.header('access-control-allow-origin', allowed)
}

/**
 * Lets pages of other origins use signed URLs, which carry their permission themselves; no cookies are involved. To be
 * registered in a scope with one of the prefixes above: it answers every OPTIONS below that.
 */
export default fp(
  async (app) => {
    await app.register(cors, {
      origin: app.config.corsOrigins,
      methods: ['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE'],
      exposedHeaders,
      maxAge: 86_400,
      // An OPTIONS that is no preflight is answered too.
      strictPreflight: false,
    })
  },
  { name: 'cors', dependencies: ['config'] },
)
