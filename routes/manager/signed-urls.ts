import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from '@sinclair/typebox'
import { invalid } from '../../lib/problems.ts'
import { defaultMaxUploads, type Permission } from '../../plugins/access/signed-urls.ts'
import { select } from '../../plugins/transfer/archives/selection.ts'
import { filenameOf } from '../../plugins/transfer/downloads/index.ts'
import { presentationHeaders } from '../../plugins/transfer/downloads/presentation.ts'
import type { VfolderFiles } from '../../plugins/vfolders/files.ts'
import { ArchiveFormat, Bytes, FolderParams, Path, PathOrRoot, problemResponses, Time } from '../schemas.ts'
import { longestSeconds, signUrl } from '../sign-url.ts'

const Body = Type.Object(
  {
    operation: Type.Union([Type.Literal('download'), Type.Literal('archive'), Type.Literal('upload')]),
    paths: Type.Array(Path, {
      maxItems: 1000,
      description: 'a URL for each; of an archive one URL for all, and for the whole vfolder when there are none',
    }),
    expiresIn: Type.Integer({ minimum: 1, maximum: longestSeconds, default: 3600, description: 'seconds' }),
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
    base: Type.Optional({
      ...PathOrRoot,
      description:
        'of an archive: the directory that the names in it are relative to, empty for the vfolder; the one that the paths ' +
        'have in common when absent',
    }),
    direct: Type.Optional(
      Type.Boolean({ description: 'for a download: a URL of the storage itself, where the volume can presign' }),
    ),
    maxBytes: Type.Optional({ ...Bytes, description: 'of each file that is uploaded' }),
    maxUploads: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
        description: `how many resumable uploads that a URL has begun may be open; ${defaultMaxUploads} when absent`,
      }),
    ),
    onlyFile: Type.Optional(
      Type.Boolean({ description: 'of an upload: a form has one file, which becomes the path, whatever its name' }),
    ),
    bytesPerSecond: Type.Optional(
      Type.Integer({
        minimum: 1024,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'of all transfers by this URL together, in each process of the service',
      }),
    ),
  },
  { additionalProperties: false, examples: [{ operation: 'download', paths: ['data/train.csv'], expiresIn: 3600 }] },
)

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.post(
    '/folders/:id/signed-urls',
    {
      config: { audit: 'url.sign' },
      schema: {
        tags: ['files'],
        operationId: 'signUrls',
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
                  examples: ['data/train.csv'],
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
        archive = 'zip',
        base,
        filename,
        disposition,
        direct,
        maxBytes,
        maxUploads,
        onlyFile,
        bytesPerSecond,
      } = request.body
      refuseContradictions(request.body)
      const { id: folder } = await app.vfolders.get(request.params.id)
      const expiresAt = Math.ceil(Date.now() / 1000) + expiresIn
      const common = {
        operation,
        folder,
        expiresAt,
        requestId: request.id,
        ...(bytesPerSecond !== undefined && { bytesPerSecond }),
      }

      const sign = (query: string, more: Pick<Permission, 'path' | 'names' | 'base'> & Partial<Permission>) => {
        const signed = signUrl(app, { ...common, ...more }, query)
        return { path: more.path, ...signed, expiresAt: new Date(expiresAt * 1000).toISOString() }
      }

      const named = filename === undefined ? {} : { filename }
      switch (operation) {
        case 'download': {
          if (direct) {
            const files = await app.vfolders.files(folder)
            const signedUrls = await signDirectly(files, request.body, request.abortSignal)
            return reply.code(201).send({ signedUrls })
          }
          const presentation = { ...named, disposition: disposition ?? 'attachment' }
          const signed = paths.map((path) => sign('', { path, ...presentation }))
          return reply.code(201).send({ signedUrls: signed.map((each) => ({ ...each, method: 'GET' as const })) })
        }
        case 'archive': {
          const selection = { ...select(paths), ...(base !== undefined && { base }) }
          const signed = sign(`archive=${archive}&`, { ...selection, ...named })
          return reply.code(201).send({ signedUrls: [{ ...signed, method: 'GET' as const }] })
        }
        case 'upload': {
          const limited = {
            ...(maxBytes !== undefined && { maxBytes }),
            ...(maxUploads !== undefined && { maxUploads }),
            ...(onlyFile !== undefined && { onlyFile }),
          }
          const signed = paths.map((path) => sign('', { path, ...limited }))
          const tusUrl = (token: string) => `${app.publicUrl()}/upload/tus?token=${token}`
          return reply.code(201).send({
            signedUrls: signed.map((each) => ({ ...each, method: 'PUT' as const, tusUrl: tusUrl(each.token) })),
          })
        }
      }
    },
  )
}

/** URLs that the storage itself answers; the service does not see their use. */
async function signDirectly(
  files: VfolderFiles,
  { paths, expiresIn, filename, disposition = 'attachment' }: Static<typeof Body>,
  signal: AbortSignal,
) {
  const expiresAt = new Date(Date.now() + expiresIn * 1000).toISOString()
  return Promise.all(
    paths.map(async (path) => {
      const presentation = presentationHeaders({ filename: filename ?? filenameOf(path), disposition })
      const url = await files.presign(path, { ...presentation, expiresInSeconds: expiresIn, signal })
      return { path, method: 'GET' as const, url, expiresAt }
    }),
  )
}

/** Refuses fields that contradict each other. */
function refuseContradictions(body: Static<typeof Body>): void {
  const {
    operation,
    paths,
    filename,
    disposition,
    archive,
    base,
    direct,
    maxBytes,
    maxUploads,
    onlyFile,
    bytesPerSecond,
  } = body
  const refuse = (field: string, rule: string) => {
    throw invalid('body', field, rule)
  }
  const absent = `must be absent for an operation ${operation}`
  if (operation !== 'upload' && maxBytes !== undefined) refuse('maxBytes', absent)
  if (operation !== 'upload' && maxUploads !== undefined) refuse('maxUploads', absent)
  if (operation !== 'upload' && onlyFile !== undefined) refuse('onlyFile', absent)
  if (operation !== 'download' && direct) refuse('direct', absent)
  if (direct && bytesPerSecond !== undefined) refuse('bytesPerSecond', 'must be absent for a URL of the storage itself')
  if (operation !== 'archive') {
    if (paths.length === 0) refuse('paths', 'must not be empty, but for an archive')
    if (archive !== undefined) refuse('archive', absent)
    if (base !== undefined) refuse('base', absent)
  }
  if (base && !paths.every((path) => path === base || path.startsWith(`${base}/`))) {
    refuse('base', 'must be a directory above all paths')
  }
  if (base && paths.length === 0) refuse('base', 'must be empty when there are no paths')
  if (operation === 'archive' && disposition === 'inline') refuse('disposition', 'must not be inline for an archive')
  if (operation === 'upload' && disposition !== undefined) refuse('disposition', absent)
  if (operation === 'upload' && filename !== undefined) refuse('filename', absent)
  if (operation === 'download' && filename !== undefined && paths.length > 1) {
    refuse('filename', 'must be absent when there are several paths')
  }
}

export default routes
