import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { splitPath } from '../../backends/path.ts'
import { Problem } from '../../plugins/problems.ts'
import { FolderParams, Path, problemResponses, Time } from '../schemas.ts'

/** As long as S3 lets a presigned URL live. */
const maxSeconds = 7 * 24 * 60 * 60

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folders/:id/signed-urls',
    {
      schema: {
        tags: ['files'],
        summary: 'Sign URLs for who has no manager token',
        description: 'Each permits one operation on one path of one vfolder, until it expires.',
        params: FolderParams,
        body: Type.Object(
          {
            operation: Type.Literal('download'),
            paths: Type.Array(Path, { minItems: 1, maxItems: 1000 }),
            expiresIn: Type.Integer({ minimum: 1, maximum: maxSeconds, default: 3600, description: 'seconds' }),
            filename: Type.Optional(
              Type.String({
                maxLength: 255,
                pattern: '^[^/\\p{Cc}\\p{Cs}]+$',
                description: 'the name to save as, for one path; without slashes and control characters',
              }),
            ),
            disposition: Type.Union([Type.Literal('attachment'), Type.Literal('inline')], { default: 'attachment' }),
          },
          { additionalProperties: false },
        ),
        response: {
          201: Type.Object({
            signedUrls: Type.Array(
              Type.Object({
                path: Type.String(),
                method: Type.Literal('GET'),
                url: Type.String({ format: 'uri' }),
                expiresAt: Time,
              }),
            ),
          }),
          ...problemResponses,
        },
      },
    },
    async (request, reply) => {
      const { operation, paths, expiresIn, filename, disposition } = request.body
      if (filename !== undefined && paths.length > 1) {
        const members = { field: 'filename', rule: 'must be absent when there are several paths', in: 'body' }
        throw new Problem('validation_failed', `body filename ${members.rule}`, { members })
      }
      const { id: folder } = await app.vfolders.get(request.params.id)
      const expiresAt = Math.ceil(Date.now() / 1000) + expiresIn
      const signedUrls = paths.map((path) => {
        const names = splitPath(path)
        const token = app.signedUrls.sign({
          operation,
          folder,
          path,
          expiresAt,
          requestId: request.id,
          disposition,
          ...(filename !== undefined && { filename }),
        })
        return {
          path,
          method: 'GET' as const,
          url: `${app.publicUrl()}/download/${folder}/${names.map(encodeURIComponent).join('/')}?token=${token}`,
          expiresAt: new Date(expiresAt * 1000).toISOString(),
        }
      })
      return reply.code(201).send({ signedUrls })
    },
  )
}

export default routes
