import cors from '@fastify/cors'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { requestIdHeader } from './request-id.ts'

/** The paths that signed URLs lead to; each is a scope of its own. */
export const clientPrefixes = ['/download/', '/upload/'] as const

const exposedHeaders = [
  requestIdHeader,
  'Accept-Ranges',
  'Allow',
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

export function isForPages(url: string): boolean {
  return clientPrefixes.some((prefix) => url.startsWith(prefix))
}

/** Lets pages read an error that came before the hooks of a client's routes: a bad URL, or a header refused for all. */
export function headersForPages({ corsOrigins }: Config, origin: string | undefined): Record<string, string> {
  const allowed = corsOrigins === '*' ? '*' : corsOrigins.find((one) => one === origin)
  return {
    'access-control-expose-headers': exposedHeaders.join(', '),
    ...(corsOrigins !== '*' && { vary: 'Origin' }),
    ...(allowed !== undefined && { 'access-control-allow-origin': allowed }),
  }
}

export interface CorsOptions {
  /** Headers that pages may read besides those of signed URLs. */
  moreExposed?: string[]
}

/**
 * Lets pages of other origins use signed URLs, which carry their permission themselves; no cookies are involved. To be
 * registered in a scope with one of the prefixes above: it answers every OPTIONS below that.
 */
export default fp(
  async (app, { moreExposed = [] }: CorsOptions) => {
    await app.register(cors, {
      origin: app.config.corsOrigins,
      methods: ['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE'],
      exposedHeaders: [...exposedHeaders, ...moreExposed],
      maxAge: 86_400,
      // An OPTIONS that is no preflight is answered too.
      strictPreflight: false,
    })
  },
  { name: 'cors', dependencies: ['config'] },
)
