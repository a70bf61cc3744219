import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { Bytes, FolderParams, Path, problemResponses, Time, Uuid } from '../schemas.ts'
import { longestSeconds } from '../sign-url.ts'

const Body = Type.Object({ path: Path, size: Bytes }, { additionalProperties: false })

const Upload = Type.Object({
  id: Uuid,
  path: Type.String({ examples: ['data/train.csv'] }),
  size: Bytes,
  parts: Type.Array(
    Type.Object({
      method: Type.Literal('PUT'),
      url: Type.String({ format: 'uri' }),
      start: Bytes,
      end: { ...Bytes, description: 'behind the last byte' },
    }),
    { description: 'each to be sent with exactly its bytes, in any order, and again where it failed' },
  ),
  completeUrl: Type.String({
    format: 'uri',
    description: 'POST to make the file when all parts are sent; DELETE to give up',
  }),
  expiresAt: Time,
})

/** Uploads whose bytes go to the storage and not through the service. */
const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folders/:id/direct-uploads',
    {
      config: { audit: 'upload.begin' },
      schema: {
        tags: ['files'],
        operationId: 'beginDirectUpload',
        summary: 'Begin an upload that a client sends to the storage itself',
        description:
          'On a volume that has `presignUpload`. The room for all bytes is reserved until the upload is completed, given ' +
          'up or expired. The URLs are for who has no manager token.',
        params: FolderParams,
        body: Body,
        response: { 201: Upload, ...problemResponses },
      },
    },
    async (request, reply) => {
      const { id: folder } = request.params
      const { path, size } = request.body
      const { uploadMaxBytes, uploadTtlSeconds } = app.config
      const expiresInSeconds = Math.min(uploadTtlSeconds, longestSeconds)
      const expiresAt = Math.floor(Date.now() / 1000) + expiresInSeconds
      const permission = { operation: 'upload' as const, folder, path, expiresAt, requestId: request.id }
      const upload = { permission, maxBytes: uploadMaxBytes, size }
      const { id, token, parts } = await app.uploads.createDirect(upload, expiresInSeconds)
      return reply.code(201).send({
        id,
        path,
        size,
        parts: parts.map((part) => ({ ...part, method: 'PUT' as const })),
        completeUrl: `${app.publicUrl()}/upload/direct/${id}?token=${token}`,
        expiresAt: new Date(expiresAt * 1000).toISOString(),
      })
    },
  )
}

export default routes
