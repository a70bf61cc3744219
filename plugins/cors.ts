import cors from '@fastify/cors'
import fp from 'fastify-plugin'
import { requestIdHeader } from './request-id.ts'

/** Lets pages of other origins use signed URLs, which carry their permission themselves; no cookies are involved. */
export default fp(
  async (app) => {
    await app.register(cors, {
      origin: app.config.corsOrigins,
      methods: ['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE'],
      exposedHeaders: [
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
      ],
      maxAge: 86_400,
      // An OPTIONS that is no preflight is a fair question too.
      strictPreflight: false,
    })
  },
  { name: 'cors', dependencies: ['config'] },
)
