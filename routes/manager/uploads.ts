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

const Reservation = Type.Object({
  id: Uuid,
  kind: Type.Union([Type.Literal('request'), Type.Literal('job')], {
    description: '`job`: of the job of that ID, which is cancelled by `DELETE /jobs/ID`',
  }),
  reserved: Type.Object({ bytes: Bytes, files: Type.Integer() }),
  requestId: Type.String({ description: 'of the request that it is for', examples: ['tour-3'] }),
  createdAt: Time,
})

/** What clients have begun to upload into a vfolder. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/folders/:id/uploads',
    {
      schema: {
        tags: ['files'],
        operationId: 'listUploads',
        summary: 'List the open uploads and the work under way, and the room that they have set aside',
        params: FolderParams,
        querystring: Type.Object({ limit: Limit(1000, 100), cursor: Type.Optional(Type.String()) }),
        response: {
          200: Type.Object({
            uploads: Type.Array(OpenUpload),
            reservations: Type.Array(Reservation, {
              description: 'room that work under way has set aside: a PUT, a form, a copy, or small files together',
            }),
            nextCursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problemResponses,
        },
      },
    },
    async ({ params, query: { limit, cursor } }) => {
      const { id } = await app.vfolders.get(params.id)
      const page = { limit: limit + 1, ...(cursor !== undefined && { after: fromCursor(cursor) }) }
      const [open, running] = await Promise.all([app.uploads.list(id, page), app.quotas.running.list(id, page)])
      const ids = [...open, ...running].map(({ id }) => id).toSorted()
      // Both are listed by ID, so a page has all of both up to its last one.
      const last = ids.slice(0, limit).at(-1) ?? ''
      const isOnPage = (row: { id: string }) => row.id <= last
      const uploads = open.filter(isOnPage).map((row) => ({
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
      const reservations = running.filter(isOnPage).map(({ id, kind, bytes, files, request_id, created_at }) => ({
        id,
        kind,
        reserved: { bytes, files },
        requestId: request_id,
        createdAt: created_at,
      }))
      return { uploads, reservations, nextCursor: ids.length > limit ? toCursor(last) : null }
    },
  )

  app.delete(
    '/folders/:id/uploads/:upload',
    {
      config: { audit: 'upload.end' },
      schema: {
        tags: ['files'],
        operationId: 'endUpload',
        summary: 'End an upload, whoever has its URL, or work under way',
        params: Type.Object({ id: Uuid, upload: Uuid }),
        response: { 204: Type.Null(), ...problemResponses },
      },
    },
    async ({ params }, reply) => {
      const { id, upload } = params
      // Nobody knows what the work had changed by then.
      if (await app.quotas.running.end(id, upload)) await (await app.vfolders.open(id)).recount()
      else await app.uploads.end(id, upload)
      return reply.code(204).send(null)
    },
  )
}

export default routes
