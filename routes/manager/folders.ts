import { randomUUID } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { responseHeaders } from '../../plugins/request/openapi-headers.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { fromCursor, toCursor } from '../cursor.ts'
import { FolderParams, Limit, problemResponses, ref, Uuid } from '../schemas.ts'
import { Folder, Metadata, QuotaChange, QuotaScope } from './folder-schemas.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folders',
    {
      schema: {
        tags: ['folders'],
        operationId: 'createFolder',
        summary: 'Create a vfolder',
        description: 'The same call twice is one vfolder: 201 the first time, 200 from then on.',
        body: Type.Object(
          {
            id: Type.Optional(Uuid),
            volume: Type.Optional(
              Type.String({ description: 'default: the volume `default`, else the first', examples: ['default'] }),
            ),
            quota: Type.Optional(QuotaChange),
            quotaScope: Type.Optional(QuotaScope),
            metadata: Type.Optional(Metadata),
          },
          { additionalProperties: false },
        ),
        [responseHeaders]: { 200: ['Location'], 201: ['Location'] },
        response: { 200: ref(Folder), 201: ref(Folder), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { id = randomUUID(), volume, quota, quotaScope = null, metadata = {} } = request.body
      const { vfolder, created } = await app.vfolders.create(
        {
          id,
          volume: volume === undefined ? app.volumes.default : app.volumes.get(volume),
          quota: { bytes: quota?.bytes ?? null, files: quota?.files ?? null },
          quotaScope,
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
        operationId: 'listFolders',
        summary: 'List vfolders by page, in the order of their IDs',
        querystring: Type.Object({
          volume: Type.Optional(Type.String()),
          limit: Limit(1000, 100),
          cursor: Type.Optional(Type.String()),
        }),
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
        operationId: 'getFolder',
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
        operationId: 'updateFolder',
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
      return app.vfolders.update(request.params.id, request.body, request.abortSignal)
    },
  )

  app.delete(
    '/folders/:id',
    {
      schema: {
        tags: ['folders'],
        operationId: 'deleteFolder',
        summary: 'Delete a vfolder and all that is in it',
        description: 'It is gone when the answer comes; a job frees its bytes.',
        params: FolderParams,
        response: { 202: Type.Object({ job: ref(Job) }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const job = await app.vfolders.remove(request.params.id)
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
    },
  )

  app.post(
    '/folders/:id/sync',
    {
      schema: {
        tags: ['folders'],
        operationId: 'syncFolder',
        summary: 'Compare the usage with what is stored, now',
        params: FolderParams,
        response: { 202: Type.Object({ job: ref(Job) }), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { id, volume } = await app.vfolders.ready(request.params.id)
      const job = await app.jobs.enqueue({ kind: 'sync-quotas', folder: id, volume, payload: {} })
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
    },
  )
}

export default routes
