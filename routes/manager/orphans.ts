import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { responseHeaders } from '../../plugins/request/openapi-headers.ts'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { fromCursor, toCursor } from '../cursor.ts'
import { Limit, problemResponses, ref, Uuid } from '../schemas.ts'
import { Folder } from './folder-schemas.ts'

const OrphanParams = Type.Object({ volume: Type.String(), id: Uuid })

/** Vfolders that are on a volume and that the database does not know. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/volumes/:volume/orphans',
    {
      schema: {
        tags: ['volumes'],
        operationId: 'listOrphans',
        summary: 'List the vfolders of a volume that the database does not know',
        description: 'As after a restore of the database. A page may have fewer than `limit`, or none, and a next one.',
        params: Type.Object({ volume: Type.String() }),
        querystring: Type.Object({ limit: Limit(1000, 100), cursor: Type.Optional(Type.String()) }),
        response: {
          200: Type.Object({
            orphans: Type.Array(Type.Object({ id: Uuid })),
            nextCursor: Type.Union([Type.String(), Type.Null()]),
          }),
          ...problemResponses,
        },
      },
    },
    async ({ params, query: { limit, cursor }, abortSignal: signal }) => {
      const after = cursor === undefined ? {} : { after: fromCursor(cursor) }
      const { ids, next } = await app.orphans.list(app.volumes.get(params.volume), { limit, signal, ...after })
      return { orphans: ids.map((id) => ({ id })), nextCursor: next === undefined ? null : toCursor(next) }
    },
  )

  app.post(
    '/volumes/:volume/orphans/:id/adopt',
    {
      config: { audit: 'folder.adopt' },
      schema: {
        tags: ['volumes'],
        operationId: 'adoptOrphan',
        summary: 'Make a vfolder of it again, without limits',
        params: OrphanParams,
        [responseHeaders]: { 201: ['Location'] },
        response: { 201: Type.Object({ folder: ref(Folder), job: ref(Job) }), ...problemResponses },
      },
    },
    async ({ params: { volume, id }, abortSignal }, reply) => {
      const { vfolder: folder, job } = await app.orphans.adopt(app.volumes.get(volume), id, abortSignal)
      return reply.code(201).header('location', `/folders/${id}`).send({ folder, job })
    },
  )

  app.delete(
    '/volumes/:volume/orphans/:id',
    {
      config: { audit: 'folder.remove-orphan' },
      schema: {
        tags: ['volumes'],
        operationId: 'removeOrphan',
        summary: 'Remove it from the volume',
        params: OrphanParams,
        response: { 202: Type.Object({ job: ref(Job) }), ...problemResponses },
      },
    },
    async ({ params: { volume, id }, abortSignal }, reply) => {
      const job = await app.orphans.remove(app.volumes.get(volume), id, abortSignal)
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job })
    },
  )
}

export default routes
