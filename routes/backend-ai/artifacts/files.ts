import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { Entry } from '../../../backends/backend.ts'
import { requestHeaders } from '../../../plugins/request/openapi-headers.ts'
import { filenameOf } from '../../../plugins/transfer/downloads/index.ts'
import { presentationHeaders } from '../../../plugins/transfer/downloads/presentation.ts'
import { awaitFirst } from '../../await-first.ts'
import { jsonList } from '../json-list.ts'
import { tellAudit } from '../named.ts'
import { parseEntryPath, parseRelpath } from '../relpath.ts'
import { removeEntries } from '../remove-entries.ts'
import { preconditions, sendBytes } from '../send-bytes.ts'
import type { Storages } from './storages.ts'

const params = Type.Object({ storage: Type.String() })
export const filesUrl = '/v1/storages/vfs/:storage'

const OfFile = Type.Object({ filepath: Type.String() })

/** The calls for files in directories. */
const routes: FastifyPluginAsyncTypebox<{ storages: Storages }> = async (app, { storages }) => {
  const open = (storage: string, signal: AbortSignal) => storages.open({ storage, bucket: undefined }, signal)

  app.get(
    `${filesUrl}/meta`,
    { exposeHeadRoute: false, schema: { params, body: OfFile } },
    async ({ params, body: { filepath }, abortSignal: signal }) => {
      const { files } = await open(params.storage, signal)
      const path = parseEntryPath(filepath)
      const { type, size, modifiedAt, changedAt = modifiedAt } = await files.stat(path, signal)
      return {
        filepath,
        content_length: size,
        content_type: presentationHeaders({ disposition: 'attachment', filename: filenameOf(path) }).contentType,
        last_modified: toSeconds(modifiedAt),
        created: toSeconds(changedAt),
        is_directory: type === 'directory',
        metadata: {},
      }
    },
  )

  const ofDownload = {
    config: { audit: 'file.read' },
    schema: { [requestHeaders]: preconditions, params, body: OfFile },
  } as const
  app.post(`${filesUrl}/download`, ofDownload, async (request, reply) => {
    const { abortSignal: signal } = request
    const { files } = await open(request.params.storage, signal)
    const path = parseRelpath(request.body.filepath)
    if (path !== '' && (await files.stat(path, signal)).type !== 'directory') return sendBytes(reply, files, path)
    // A directory as a tar, whose names are relative to it.
    const filename = `${filenameOf(path) || request.params.storage}.tar`
    tellAudit(request, { action: 'archive.read' })
    return reply.sendArchive(files, { path, base: path }, { format: 'tar', deflate: false, filename })
  })

  app.get(
    `${filesUrl}/files`,
    { exposeHeadRoute: false, schema: { params, body: Type.Object({ directory: Type.String() }) } },
    async ({ params, body, abortSignal: signal }, reply) => {
      const { files } = await open(params.storage, signal)
      const path = parseRelpath(body.directory)
      const listing = await awaitFirst(files.listMany({ ...(path !== '' && { path }), recursive: true, signal }))
      return reply.type('application/json; charset=utf-8').send(jsonList('files', listing, toItem))
    },
  )

  app.delete(
    filesUrl,
    { config: { audit: 'entry.delete' }, schema: { params, body: OfFile } },
    async ({ params, body: { filepath }, abortSignal: signal }) => {
      const { folder } = await open(params.storage, signal)
      await removeEntries(app, folder, [parseEntryPath(filepath)], { recursive: true, signal })
      return { filepath }
    },
  )
}

function toItem({ path, type, size, modifiedAt, changedAt = modifiedAt }: Entry) {
  const isDirectory = type === 'directory'
  return {
    name: filenameOf(path),
    type: isDirectory ? 'directory' : 'file',
    size: isDirectory ? null : size,
    modified: toSeconds(modifiedAt),
    created: toSeconds(changedAt),
    path,
  }
}

function toSeconds(time: Date): number {
  return time.getTime() / 1000
}

export default routes
