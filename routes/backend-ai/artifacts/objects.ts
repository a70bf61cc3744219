import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type TProperties, Type } from '@sinclair/typebox'
import { NotFound } from '../../../backends/errors.ts'
import { invalid } from '../../../lib/problems.ts'
import { requestHeaders } from '../../../plugins/request/openapi-headers.ts'
import { filenameOf } from '../../../plugins/transfer/downloads/index.ts'
import { presentationHeaders } from '../../../plugins/transfer/downloads/presentation.ts'
import { longestSeconds, signUrl } from '../../sign-url.ts'
import { tellAudit } from '../named.ts'
import { parseEntryPath } from '../relpath.ts'
import { removeEntries } from '../remove-entries.ts'
import { preconditions, sendBytes } from '../send-bytes.ts'
import type { Storages } from './storages.ts'

/** How long a URL can be used that the manager gives no time for. */
const usualSeconds = 3600

const params = Type.Object({ storage: Type.String(), bucket: Type.String() })
export const objectUrl = '/v1/storages/s3/:storage/buckets/:bucket/object'

function ofKey<T extends TProperties>(more: T) {
  return Type.Object({ key: Type.String(), ...more })
}

const Optional = (minimum: number) => Type.Optional(Type.Union([Type.Integer({ minimum }), Type.Null()]))
const Expiration = Type.Optional(Type.Union([Type.Integer({ minimum: 1, maximum: longestSeconds }), Type.Null()]))

/** The calls for objects in buckets; a key is a path. */
const routes: FastifyPluginAsyncTypebox<{ storages: Storages }> = async (app, { storages }) => {
  app.get(
    `${objectUrl}/meta`,
    { exposeHeadRoute: false, schema: { params, body: ofKey({}) } },
    async ({ params, body, abortSignal: signal }) => {
      const { files } = await storages.open(params, signal)
      const path = parseEntryPath(body.key)
      const { type, size, modifiedAt, etag } = await files.stat(path, signal)
      if (type !== 'file') throw new NotFound(`${path} is no object but a ${type}`)
      return {
        content_length: size,
        content_type: presentationHeaders({ disposition: 'attachment', filename: filenameOf(path) }).contentType,
        last_modified: modifiedAt.toISOString(),
        etag: etag === undefined ? null : `"${etag}"`,
        metadata: {},
      }
    },
  )

  const ofDownload = {
    config: { audit: 'file.read' },
    schema: { [requestHeaders]: preconditions, params, body: ofKey({}) },
  } as const
  app.post(`${objectUrl}/download`, ofDownload, async (request, reply) => {
    const { files } = await storages.open(request.params, request.abortSignal)
    return sendBytes(reply, files, parseEntryPath(request.body.key))
  })

  const deletion = { config: { audit: 'entry.delete' }, schema: { params, body: ofKey({}) } } as const
  app.delete(objectUrl, deletion, async ({ params, body, abortSignal: signal }) => {
    const { folder } = await storages.open(params, signal)
    await removeEntries(app, folder, [parseEntryPath(body.key)], { recursive: true, signal })
    return {}
  })

  // The URLs are ours, so they work with every volume; one with `redirect` leads a download on to the storage.
  app.post(
    `${objectUrl}/presigned/download`,
    { config: { audit: 'url.sign' }, schema: { params, body: ofKey({ expiration: Expiration }) } },
    async (request) => {
      const { id: requestId, params, body, abortSignal } = request
      tellAudit(request, { subject: 'download' })
      const { folder } = await storages.open(params, abortSignal)
      const path = parseEntryPath(body.key)
      const { url } = signUrl(app, {
        operation: 'download',
        folder,
        path,
        requestId,
        expiresAt: endOf(body.expiration),
      })
      return { url }
    },
  )

  app.post(
    `${objectUrl}/presigned/upload`,
    {
      config: { audit: 'url.sign' },
      schema: { params, body: ofKey({ expiration: Expiration, min_size: Optional(0), max_size: Optional(1) }) },
    },
    async (request) => {
      const { id: requestId, params, body, abortSignal } = request
      tellAudit(request, { subject: 'upload' })
      if (body.min_size) throw invalid('body', 'min_size', 'must be absent: a file may have any size up to max_size')
      const { folder } = await storages.open(params, abortSignal)
      const path = parseEntryPath(body.key)
      const limit = typeof body.max_size === 'number' ? { maxBytes: body.max_size } : {}
      const where = { operation: 'upload', folder, path, onlyFile: true } as const
      const { url } = signUrl(app, { ...where, ...limit, requestId, expiresAt: endOf(body.expiration) })
      // Of a form to that URL; S3 would want some.
      return { url, fields: {} }
    },
  )
}

/** In seconds since 1970. */
function endOf(seconds: number | null | undefined): number {
  return Math.ceil(Date.now() / 1000) + (seconds ?? usualSeconds)
}

export default routes
