import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { splitPath } from '../../backends/path.ts'
import { Problem } from '../../plugins/problems.ts'
import { Bytes, FolderParams, Path, problemResponses, Time } from '../schemas.ts'

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
            operation: Type.Union([Type.Literal('download'), Type.Literal('upload')]),
            paths: Type.Array(Path, { minItems: 1, maxItems: 1000 }),
            expiresIn: Type.Integer({ minimum: 1, maximum: maxSeconds, default: 3600, description: 'seconds' }),
            filename: Type.Optional(
              Type.String({
                maxLength: 255,
                pattern: '^[^/\\p{Cc}\\p{Cs}]+$',
                description: 'the name to save as, for one path; without slashes and control characters',
              }),
            ),
            disposition: Type.Optional(
              Type.Union([Type.Literal('attachment'), Type.Literal('inline')], { description: 'default: attachment' }),
            ),
            maxBytes: Type.Optional({ ...Bytes, description: 'of each file that is uploaded' }),
          },
          { additionalProperties: false },
        ),
        response: {
          201: Type.Object({
            signedUrls: Type.Array(
              Type.Object({
                path: Type.String(),
                method: Type.Union([Type.Literal('GET'), Type.Literal('PUT')]),
                url: Type.String({ format: 'uri' }),
                tusUrl: Type.Optional(Type.String({ format: 'uri', description: 'of an upload: where tus begins' })),
                expiresAt: Time,
              }),
            ),
          }),
          ...problemResponses,
        },
      },
    },
    async (request, reply) => {
      const { operation, paths, expiresIn, ...options } = request.body
      refuseUnfit(request.body)
      const { id: folder } = await app.vfolders.get(request.params.id)
      const expiresAt = Math.ceil(Date.now() / 1000) + expiresIn
      const signedUrls = paths.map((path) => {
        const permission = { operation, folder, path, expiresAt, requestId: request.id, ...options }
        const query = `?token=${app.signedUrls.sign(permission)}`
        const place = `${folder}/${splitPath(path).map(encodeURIComponent).join('/')}`
        const times = { expiresAt: new Date(expiresAt * 1000).toISOString() }
        const url = `${app.publicUrl()}/${operation}/${place}${query}`
        if (operation === 'download') return { path, method: 'GET' as const, url, ...times }
        return { path, method: 'PUT' as const, url, tusUrl: `${app.publicUrl()}/upload/tus${query}`, ...times }
      })
      return reply.code(201).send({ signedUrls })
    },
  )
}

export default routes

interface Options {
  operation: 'download' | 'upload'
  paths: string[]
  filename?: string
  disposition?: string
  maxBytes?: number
}

function refuseUnfit({ operation, paths, filename, disposition, maxBytes }: Options): void {
  const refuse = (field: string, when: string) => {
    const members = { field, rule: `must be absent ${when}`, in: 'body' }
    throw new Problem('validation_failed', `body ${field} ${members.rule}`, { members })
  }
  if (filename !== undefined && paths.length > 1) refuse('filename', 'when there are several paths')
  if (operation === 'download' && maxBytes !== undefined) refuse('maxBytes', 'for a download')
  if (operation === 'upload' && filename !== undefined) refuse('filename', 'for an upload')
  if (operation === 'upload' && disposition !== undefined) refuse('disposition', 'for an upload')
}
