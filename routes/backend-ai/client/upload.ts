import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { parseVfid, toUuid } from '../../../lib/vfid.ts'
import { bodyOf } from '../../../plugins/transfer/body.ts'
import type { Announced } from '../../../plugins/vfolders/uploads/first-use.ts'
import { checksumOf, offsetOf, tusVersion } from '../../client/tus/headers.ts'
import { describeProgress } from '../../client/tus/upload.ts'
import { announcedLengthOf } from '../../client/upload-limit.ts'
import { folderIn, readable } from '../named.ts'
import { parseEntryPath } from '../relpath.ts'
import { openVfolder } from '../target.ts'
import type { Tokens } from '../token.ts'
import { ClientQuery, guard, placeOf } from './permit.ts'

/** tus 1.0.0 without creation: the manager's token names the upload and tells its size, and its first bytes begin it. */
const routes: FastifyPluginAsyncTypebox<{ tokens: Tokens }> = async (app, { tokens }) => {
  const { uploadMaxBytes } = app.config
  const permissionOf = guard(app, tokens, 'upload', ({ vfid, relpath, session }, { dst_dir: directory }) => ({
    folder: folderIn(vfid),
    path: readable(relpath, (path) => placeOf(path, directory)) || undefined,
    subject: isSession(session) ? toUuid(session) : undefined,
  }))

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))

  app.addHook('onSend', async ({ method }, reply) => {
    reply.header('tus-resumable', tusVersion)
    if (method !== 'OPTIONS') return
    reply.header('tus-version', tusVersion)
    if (uploadMaxBytes < Number.MAX_SAFE_INTEGER) reply.header('tus-max-size', uploadMaxBytes)
  })

  async function uploadOf(request: FastifyRequest, query: Record<string, string>): Promise<Announced> {
    const { token = '', dst_dir: directory } = query
    const { volume, vfid, relpath, size, session, exp, request_id: requestId } = permissionOf(request)
    if (!isSession(session)) throw new Problem('token_invalid', 'The session is not one of Backend.AI.')
    const path = parseEntryPath(placeOf(relpath, directory))
    await openVfolder(app, volume, vfid)
    return {
      named: { id: toUuid(session), token, until: exp * 1000 },
      permission: {
        operation: 'upload',
        folder: parseVfid(vfid).folder,
        path,
        expiresAt: exp,
        requestId: requestId ?? request.id,
      },
      maxBytes: uploadMaxBytes,
      size,
      metadata: undefined,
    }
  }

  app.route({
    method: ['HEAD'],
    url: '',
    schema: { querystring: ClientQuery },
    handler: async (request, reply) => {
      const upload = await uploadOf(request, request.query)
      // It makes the file of no bytes, and anything else it only looks at.
      if (upload.size === 0) await app.audit.requireReady({ isRead: false })
      const row = await app.uploads.settledAnnounced(upload, request.abortSignal)
      reply.code(200).headers({ 'cache-control': 'no-store', 'upload-length': upload.size, 'upload-offset': 0 })
      if (row !== undefined) describeProgress(reply, row)
      return reply.send()
    },
  })

  // A client whose HEAD was refused tries to begin an upload here (tus-js-client). Its user is to read why it was refused.
  const config = { readsBody: true, audit: 'upload.append' } as const
  app.post('', { config, schema: { querystring: ClientQuery } }, async (request) => {
    await app.uploads.settledAnnounced(await uploadOf(request, request.query), request.abortSignal)
    const allow = 'HEAD, OPTIONS, PATCH'
    throw new Problem('method_not_allowed', `An upload is begun by its first bytes: this path takes ${allow}.`, {
      headers: { allow },
    })
  })

  app.patch(
    '',
    { config: { ...config, mayMissAnswer: true }, schema: { querystring: ClientQuery } },
    async (request, reply) => {
      const upload = await uploadOf(request, request.query)
      const { headers, abortSignal } = request
      reply.beginTransfer()
      const append = {
        offset: offsetOf(headers),
        bytes: announcedLengthOf(headers),
        checksum: checksumOf(headers),
        read(end: AbortSignal) {
          reply.willReadBody()
          return request.paced(bodyOf(request.raw, { end }), undefined, end)
        },
      }
      const row = await app.uploads.appendAnnounced(upload, append, abortSignal)
      reply.code(204).headers({ 'cache-control': 'no-store', 'upload-length': upload.size })
      return describeProgress(reply, row).send()
    },
  )
}

/** As Backend.AI names its uploads. */
function isSession(text: string): boolean {
  return /^[0-9a-f]{32}$/i.test(text)
}

export default routes
