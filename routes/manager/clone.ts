import { randomUUID } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Job } from '../../plugins/work/job-queue/job.ts'
import { FolderParams, problemResponses, ref, Uuid } from '../schemas.ts'
import { Folder, Metadata, QuotaChange, QuotaScope } from './folder-schemas.ts'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folders/:id/clone',
    {
      config: { audit: 'folder.clone' },
      schema: {
        tags: ['folders'],
        operationId: 'cloneFolder',
        summary: 'Clone a vfolder',
        description:
          'A job fills the new vfolder, which is `cloning` and in use by nobody until it is whole. The same call twice ' +
          'is one vfolder and one job. A clone that fails or is cancelled removes what it made.',
        params: FolderParams,
        body: Type.Object(
          {
            id: Type.Optional(Uuid),
            volume: Type.Optional(Type.String({ description: 'default: that of the source', examples: ['default'] })),
            quota: Type.Optional(QuotaChange),
            quotaScope: Type.Optional(
              Type.Union([QuotaScope, Type.Null()], { description: 'default: that of the source' }),
            ),
            metadata: Type.Optional(Metadata),
          },
          { additionalProperties: false },
        ),
        response: { 202: Type.Object({ job: ref(Job), folder: ref(Folder) }), ...problemResponses },
      },
    },
    async ({ params, body, abortSignal }, reply) => {
      const source = await app.vfolders.get(params.id)
      const { id = randomUUID(), volume = source.volume, quota, quotaScope = source.quotaScope, metadata = {} } = body
      const { job, vfolder } = await app.vfolders.clone(
        source,
        {
          id,
          volume: app.volumes.get(volume),
          quota: { bytes: quota?.bytes ?? null, files: quota?.files ?? null },
          quotaScope,
          metadata,
        },
        abortSignal,
      )
      return reply.code(202).header('location', `/jobs/${job.id}`).send({ job, folder: vfolder })
    },
  )
}

export default routes
