import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { fromCursor, toCursor } from '../cursor.ts'
import { Bytes, FolderParams, Limit, problemResponses, Time, Uuid } from '../schemas.ts'

const OpenUpload = Type.Object({
  id: Uuid,
  path: Type.String({ examples: ['data/train.csv'] }),
  kind: Type.Union(
    ['whole', 'partial', 'final', 'direct'].map((kind) => Type.Literal(kind)),
    {
      description:
        '`partial`: becomes a part of a final one; `direct`: its client sends the bytes to the storage itself',
    },
  ),
  size: Type.Union([Bytes, Type.Null()], { description: 'null while the client has not said it' }),
  offset: { ...Bytes, description: 'the bytes before it are durable' },
  reserved: Type.Object({ bytes: Bytes, files: Type.Integer() }, { description: 'room that is set aside for it' }),
  requestId: Type.String({ description: 'of the request that began it', examples: ['tour-2'] }),
  originRequestId: Type.String({ description: 'of the request that signed its URL', examples: ['tour-1'] }),
  createdAt: Time,
  expiresAt: Time,
})

/** What clients have begun to upload into a vfolder. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/folders/:id/uploads',
    {
      schema: {
        tags: ['files'],
        operationId: 'listUploads',
        summary: 'List the open uploads, and the room that they have set aside',
        params: FolderParams,
        querystring: Type.Object({ limit: Limit(1000, 100), cursor: Type.Optional(Type.String()) }),
        response: {
          200: Type.Object({
            uploads: Type.Array(OpenUpload),
            nextCursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problemResponses,
        },
      },
    },
    async ({ params, query: { limit, cursor } }) => {
      const { id } = await app.vfolders.get(params.id)
      const after = cursor === undefined ? {} : { after: fromCursor(cursor) }
      const found = await app.uploads.list(id, { limit: limit + 1, ...after })
      const rows = found.slice(0, limit)
      const last = rows.at(-1)
      const uploads = rows.map((row) => ({
        id: row.id,
        path: row.path,
        kind: row.kind,
        size: row.size,
        offset: row.offset,
        reserved: { bytes: row.reserved_bytes, files: row.reserved_files },
        requestId: row.request_id,
        originRequestId: row.origin_request_id,
        createdAt: row.created_at,
        expiresAt: new Date(row.expires_at).toISOString(),
      }))
      return { uploads, nextCursor: found.length > limit && last !== undefined ? toCursor(last.id) : null }
    },
  )

  app.delete(
    '/folders/:id/uploads/:upload',
    {
      config: { audit: 'upload.end' },
      schema: {
        tags: ['files'],
        operationId: 'endUpload',
        summary: 'End an upload, whoever has its URL',
        params: Type.Object({ id: Uuid, upload: Uuid }),
        response: { 204: Type.Null(), ...problemResponses },
      },
    },
    async ({ params }, reply) => {
      await app.uploads.end(params.id, params.upload)
      return reply.code(204).send(null)
    },
  )
}

export default routes
