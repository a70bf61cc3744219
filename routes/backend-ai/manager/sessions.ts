import { randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { invalid, Problem } from '../../../lib/problems.ts'
import { formatVfid, parseVfid } from '../../../lib/vfid.ts'
import { isArchiveName } from '../archive-name.ts'
import { tellAudit } from '../named.ts'
import { parseEntryPath, parseRelpath } from '../relpath.ts'
import { OfVolume, ofVfolder, readSize, Size } from '../schemas.ts'
import { findVfolder } from '../target.ts'
import type { Tokens } from '../token.ts'

/** A URL is not to be longer than everybody on the way accepts (RFC 9110, section 4.1), with room for what is around it. */
const maxTokenLength = 7500

const ArchiveRequest = Type.Object({
  ...OfVolume.properties,
  virtual_folder_id: Type.String(),
  files: Type.Array(Type.String(), { minItems: 1 }),
  filename: Type.Optional(Type.Union([Type.String({ maxLength: 255 }), Type.Null()])),
})

export interface SessionOptions {
  tokens: Tokens
  /** How long a token can be used. */
  seconds: number
}

/** Tokens by which clients move bytes, and which the manager passes on. */
export default async function sessions(scope: FastifyInstance, { tokens, seconds }: SessionOptions): Promise<void> {
  const app = scope.withTypeProvider<TypeBoxTypeProvider>()

  /** What each token says besides; a vfolder is there, but whether the entries are is seen when the token is used. */
  async function prepare({ id }: FastifyRequest, volume: string, text: string, field: string) {
    const vfid = parseVfid(text, field)
    const vfolder = await findVfolder(app, volume, vfid)
    const exp = Math.ceil(Date.now() / 1000) + seconds
    return { vfolder: vfolder.id, vfid: formatVfid(vfid), common: { volume, exp, request_id: id } }
  }

  app.post(
    '/folder/file/download',
    { config: { audit: 'url.sign' }, schema: { body: ofVfolder({ relpath: Type.String() }) } },
    async (request) => {
      tellAudit(request, { subject: 'download' })
      const { volume, vfid: text, relpath } = request.body
      const path = parseRelpath(relpath) || '.'
      const { vfid, common } = await prepare(request, volume, text, 'vfid')
      return { token: tokens.sign('download', { op: 'download', vfid, relpath: path, ...common }) }
    },
  )

  const ofArchive = { config: { audit: 'url.sign' }, schema: { body: ArchiveRequest } } as const
  app.post('/folder/file/archive-download-token', ofArchive, async (request) => {
    tellAudit(request, { subject: 'archive' })
    const { volume, virtual_folder_id: text, files, filename = null } = request.body
    if (filename !== null && !isArchiveName(filename)) {
      throw invalid('body', 'filename', 'must be the name of a file: no path, no control characters, not only spaces')
    }
    const paths = files.map((path) => parseRelpath(path) || '.')
    const { vfid, common } = await prepare(request, volume, text, 'virtual_folder_id')
    const claims = { operation: 'download', virtual_folder_id: vfid, files: paths, filename, ...common } as const
    const token = tokens.sign('archive', claims)
    if (token.length <= maxTokenLength) return { token }
    throw new Problem(
      'selection_too_large',
      `The token of ${files.length} files would not fit into a URL; take directories.`,
    )
  })

  app.post(
    '/folder/file/upload',
    { config: { audit: 'url.sign' }, schema: { body: ofVfolder({ relpath: Type.String(), size: Size }) } },
    async (request) => {
      tellAudit(request, { subject: 'upload' })
      const { volume, vfid: text, relpath } = request.body
      const size = readSize(request.body.size, 'size')
      const { uploadMaxBytes } = app.config
      if (size > uploadMaxBytes) throw invalid('body', 'size', `must not be over ${uploadMaxBytes}`)
      const path = parseEntryPath(relpath)
      const { vfolder, vfid, common } = await prepare(request, volume, text, 'vfid')
      await (await app.vfolders.files(vfolder)).requireRoom(size, request.abortSignal)
      const session = randomUUID().replaceAll('-', '')
      return { token: tokens.sign('upload', { op: 'upload', vfid, relpath: path, size, session, ...common }) }
    },
  )
}
