import { randomUUID } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { responseHeaders } from '../../plugins/request/openapi-headers.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { fromCursor, toCursor } from '../cursor.ts'
import { FolderParams, Limit, problemResponses, ref, Uuid } from '../schemas.ts'
import { Folder, Metadata, Mode, QuotaChange, QuotaScope } from './folder-schemas.ts'

/** Of one that is being deleted nobody is told. */
const listedStates = ['creating', 'cloning', 'ready', 'trashed'] as const

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folders',
    {
      config: { audit: 'folder.create' },
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
            mode: Type.Optional(Mode),
          },
          { additionalProperties: false },
        ),
        [responseHeaders]: { 200: ['Location'], 201: ['Location'] },
        response: { 200: ref(Folder), 201: ref(Folder), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { id = randomUUID(), volume, quota, quotaScope = null, metadata = {}, mode } = request.body
      const { vfolder, created } = await app.vfolders.create(
        {
          id,
          volume: volume === undefined ? app.volumes.default : app.volumes.get(volume),
          quota: { bytes: quota?.bytes ?? null, files: quota?.files ?? null },
          quotaScope,
          metadata,
          mode,
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
          state: Type.Optional(
            Type.Union(
              listedStates.map((state) => Type.Literal(state)),
              { description: 'default: all that are not deleted; `trashed`: those that can be restored' },
            ),
          ),
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
    async ({ query: { volume, state, limit, cursor } }) => {
      const found = await app.vfolders.list({
        limit: limit + 1,
        ...(volume !== undefined && { volume: app.volumes.get(volume).name }),
        ...(state !== undefined && { state }),
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
        description: 'Also one in the trash, which every other call but restoring and deleting refuses.',
        params: FolderParams,
        response: { 200: ref(Folder), ...problemResponses },
      },
    },
    async (request) => app.vfolders.describe(request.params.id),
  )

  app.patch(
    '/folders/:id',
    {
      config: { audit: 'folder.update' },
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
      config: { audit: 'folder.delete' },
      schema: {
        tags: ['folders'],
        operationId: 'deleteFolder',
        summary: 'Delete a vfolder and all that is in it',
        description:
          'With `TRASH_RETENTION_SECONDS` it is put into the trash, from which it can be restored, and the same call ' +
          'again changes nothing: 200. Otherwise it is gone when the answer comes, and a job frees its bytes: 202.',
        params: FolderParams,
        querystring: Type.Object({
          permanent: Type.Boolean({ default: false, description: 'not into the trash, or out of it for good' }),
        }),
        response: {
          200: ref(Folder, { description: 'the vfolder, in the trash' }),
          202: Type.Object({ job: ref(Job) }, { description: 'the job that frees its bytes' }),
          ...problemResponses,
        },
      },
    },
    async ({ params: { id }, query: { permanent } }, reply) => {
      const isKept = app.trash.isOn && !permanent
      const discarded = isKept ? await app.vfolders.discard(id) : { job: await app.vfolders.remove(id) }
      if ('vfolder' in discarded) return reply.code(200).send(discarded.vfolder)
      return reply.code(202).header('location', `/jobs/${discarded.job.id}`).send(discarded)
    },
  )

  app.post(
    '/folders/:id/restore',
    {
      config: { audit: 'folder.restore' },
      schema: {
        tags: ['trash'],
        operationId: 'restoreFolder',
        summary: 'Take a vfolder out of the trash',
        description: 'With all that it had. The same call again changes nothing.',
        params: FolderParams,
        response: { 200: ref(Folder), ...problemResponses },
      },
    },
    async (request) => app.vfolders.restore(request.params.id),
  )

  app.post(
    '/folders/:id/sync',
    {
      config: { audit: 'folder.sync' },
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
