import { randomUUID } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { fromCursor, toCursor } from '../cursor.ts'
import { Bytes, FolderParams, Limit, problemResponses, ref, Time, Uuid } from '../schemas.ts'

const Limited = Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()])

const QuotaChange = Type.Object(
  { bytes: Type.Optional(Limited), files: Type.Optional(Limited) },
  { additionalProperties: false, description: 'limits; null is none' },
)

const Metadata = Type.Record(Type.String(), Type.Unknown(), {
  maxProperties: 64,
  description: "the manager's own notes, kept as they are",
})

const Folder = Type.Object(
  {
    id: Type.String(),
    volume: Type.String(),
    state: Type.Union([Type.Literal('creating'), Type.Literal('ready'), Type.Literal('deleting')]),
    quota: Type.Object({ bytes: Limited, files: Limited }),
    usage: Type.Object({
      bytes: Bytes,
      files: Type.Integer({ minimum: 0 }),
      syncedAt: Type.Union([Time, Type.Null()], {
        description: 'when the counters were last compared with the storage',
      }),
    }),
    metadata: Metadata,
    createdAt: Time,
  },
  { $id: 'Folder', title: 'Folder' },
)

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.addSchema(Folder)

  app.post(
    '/folders',
    {
      schema: {
        tags: ['folders'],
        summary: 'Create a vfolder',
        description: 'The same call twice is one vfolder: 201 the first time, 200 from then on.',
        body: Type.Object(
          {
            id: Type.Optional(Uuid),
            volume: Type.Optional(Type.String({ description: 'default: the volume `default`, else the first' })),
            quota: Type.Optional(QuotaChange),
            metadata: Type.Optional(Metadata),
          },
          { additionalProperties: false },
        ),
        response: { 200: ref(Folder), 201: ref(Folder), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { id = randomUUID(), volume, quota, metadata = {} } = request.body
      const { vfolder, created } = await app.vfolders.create(
        {
          id,
          volume: volume === undefined ? app.volumes.default : app.volumes.get(volume),
          quota: { bytes: quota?.bytes ?? null, files: quota?.files ?? null },
          metadata,
        },
        request.abortSignal,
      )
      return reply
        .code(created ? 201 : 200)
        .header('location', `/folders/${id}`)
        .send(vfolder)
    },
  )

  app.get(
    '/folders',
    {
      schema: {
        tags: ['folders'],
        summary: 'List vfolders by page, in the order of their IDs',
        querystring: Type.Object(
          {
            volume: Type.Optional(Type.String()),
            limit: Limit(1000, 100),
            cursor: Type.Optional(Type.String()),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({
            folders: Type.Array(ref(Folder)),
            nextCursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problemResponses,
        },
      },
    },
    async ({ query: { volume, limit, cursor } }) => {
      const found = await app.vfolders.list({
        limit: limit + 1,
        ...(volume !== undefined && { volume: app.volumes.get(volume).name }),
        ...(cursor !== undefined && { after: fromCursor(cursor) }),
      })
      const folders = found.slice(0, limit)
      const last = folders.at(-1)
      return { folders, nextCursor: found.length > limit && last !== undefined ? toCursor(last.id) : null }
    },
  )

  app.get(
    '/folders/:id',
    {
      schema: {
        tags: ['folders'],
        summary: 'Describe a vfolder, with its quota and usage',
        params: FolderParams,
        response: { 200: ref(Folder), ...problemResponses },
      },
    },
    async (request) => app.vfolders.get(request.params.id),
  )

  app.patch(
    '/folders/:id',
    {
      schema: {
        tags: ['folders'],
        summary: 'Change the quota or the metadata',
        description: 'A quota member that is absent stays; `metadata` is replaced as a whole.',
        params: FolderParams,
        body: Type.Object(
          { quota: Type.Optional(QuotaChange), metadata: Type.Optional(Metadata) },
          { additionalProperties: false, minProperties: 1 },
        ),
        response: { 200: ref(Folder), ...problemResponses },
      },
    },
    async (request) => {
      await app.vfolders.get(request.params.id)
      return app.vfolders.update(request.params.id, request.body)
    },
  )

  app.delete(
    '/folders/:id',
    {
      schema: {
        tags: ['folders'],
        summary: 'Delete a vfolder and all that is in it',
        description: 'It is gone when the answer comes; its bytes are freed in the background.',
        params: FolderParams,
        response: { 204: Type.Null(), ...problemResponses },
      },
    },
    async (request, reply) => {
      await app.vfolders.remove(request.params.id, request.abortSignal)
      return reply.code(204).send(null)
    },
  )
}

export default routes
