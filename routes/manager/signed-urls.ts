import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from '@sinclair/typebox'
import { splitPath } from '../../backends/path.ts'
import { select } from '../../plugins/archives/selection.ts'
import { Problem } from '../../plugins/problems.ts'
import type { Permission } from '../../plugins/signed-urls.ts'
import { ArchiveFormat, Bytes, FolderParams, Path, problemResponses, Time } from '../schemas.ts'

/** As long as S3 lets a presigned URL live. */
const maxSeconds = 7 * 24 * 60 * 60
/** What everybody on the way should let pass (RFC 9110, section 4.1). */
const maxUrlBytes = 8000

const Body = Type.Object(
  {
    operation: Type.Union([Type.Literal('download'), Type.Literal('archive'), Type.Literal('upload')]),
    paths: Type.Array(Path, {
      maxItems: 1000,
      description: 'a URL for each; of an archive one URL for all, and for the whole vfolder when there are none',
    }),
    expiresIn: Type.Integer({ minimum: 1, maximum: maxSeconds, default: 3600, description: 'seconds' }),
    filename: Type.Optional(
      Type.String({
        maxLength: 255,
        pattern: '^[^/\\p{Cc}\\p{Cs}]+$',
        description:
          'the name to save as, for one path or an archive, which adds its extension; without slashes and control characters',
      }),
    ),
    disposition: Type.Optional(Type.Union([Type.Literal('attachment'), Type.Literal('inline')])),
    archive: Type.Optional(ArchiveFormat),
    maxBytes: Type.Optional({ ...Bytes, description: 'of each file that is uploaded' }),
  },
  { additionalProperties: false },
)

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folders/:id/signed-urls',
    {
      schema: {
        tags: ['files'],
        summary: 'Sign URLs for who has no manager token',
        description:
          'Each permits one operation on one path of one vfolder, or an archive of several, until it expires.',
        params: FolderParams,
        body: Body,
        response: {
          201: Type.Object({
            signedUrls: Type.Array(
              Type.Object({
                path: Type.String({
                  description: 'of an archive of several the directory that they have in common; empty for the vfolder',
                }),
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
      const {
        operation,
        paths,
        expiresIn,
        filename,
        disposition = 'attachment',
        archive = 'zip',
        maxBytes,
      } = request.body
      refuseContradictions(request.body)
      const { id: folder } = await app.vfolders.get(request.params.id)
      const expiresAt = Math.ceil(Date.now() / 1000) + expiresIn
      const common = { folder, expiresAt, requestId: request.id, ...(filename !== undefined && { filename }) }
      const sign = (permission: Permission, query: string) => {
        const { path } = permission
        const location = path === '' ? '' : splitPath(path).map(encodeURIComponent).join('/')
        const token = app.signedUrls.sign(permission)
        const times = { expiresAt: new Date(expiresAt * 1000).toISOString() }
        const place = `${folder}/${location}?${query}token=${token}`
        if (operation !== 'upload') {
          return { path, method: 'GET' as const, url: `${app.publicUrl()}/download/${place}`, ...times }
        }
        const upload = `${app.publicUrl()}/upload`
        return {
          path,
          method: 'PUT' as const,
          url: `${upload}/${place}`,
          tusUrl: `${upload}/tus?token=${token}`,
          ...times,
        }
      }
      if (operation === 'download') {
        const signedUrls = paths.map((path) => sign({ ...common, operation, path, disposition }, ''))
        return reply.code(201).send({ signedUrls })
      }
      if (operation === 'upload') {
        const limits = maxBytes === undefined ? {} : { maxBytes }
        const signedUrls = paths.map((path) => sign({ ...common, operation, path, ...limits }, ''))
        return reply.code(201).send({ signedUrls })
      }
      const signed = sign({ ...common, operation, ...select(paths) }, `archive=${archive}&`)
      if (signed.url.length > maxUrlBytes) {
        const members = { urlBytes: signed.url.length, maxUrlBytes }
        const detail = `The names of ${paths.length} paths make a URL of ${signed.url.length} bytes, of ${maxUrlBytes} allowed; choose their directory, or fewer.`
        throw new Problem('selection_too_large', detail, { members })
      }
      return reply.code(201).send({ signedUrls: [signed] })
    },
  )
}

/** What the fields may not say together. */
function refuseContradictions(body: Static<typeof Body>): void {
  const { operation, paths, filename, disposition, archive, maxBytes } = body
  const refuse = (field: string, rule: string) => {
    const members = { field, rule, in: 'body' }
    throw new Problem('validation_failed', `body ${field} ${rule}`, { members })
  }
  if (operation !== 'upload' && maxBytes !== undefined) refuse('maxBytes', 'must be absent but for an upload')
  if (operation === 'archive') {
    if (disposition === 'inline') refuse('disposition', 'must not be inline for an archive')
    return
  }
  if (paths.length === 0)
    refuse('paths', `must not be empty for ${operation === 'upload' ? 'an upload' : 'a download'}`)
  if (filename !== undefined && paths.length > 1) refuse('filename', 'must be absent when there are several paths')
  if (archive !== undefined) refuse('archive', 'must be absent but for an archive')
  if (operation === 'upload' && filename !== undefined) refuse('filename', 'must be absent for an upload')
  if (operation === 'upload' && disposition !== undefined) refuse('disposition', 'must be absent for an upload')
}

export default routes
