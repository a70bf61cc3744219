import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { rateOf } from '../../../plugins/access/rates.ts'
import { bytesBody, requestBody } from '../../../plugins/request/openapi-document.ts'
import { requestHeaders, responseHeaders } from '../../../plugins/request/openapi-headers.ts'
import { bodyOf } from '../../../plugins/transfer/body.ts'
import type { Named } from '../../../plugins/vfolders/uploads/rows.ts'
import { smallBytes } from '../../../plugins/vfolders/write.ts'
import { problemResponses } from '../../schemas.ts'
import { guardCreation, permissionOf, TokenQuery } from '../scopes.ts'
import { announcedLengthOf, uploadLimitOf } from '../upload-limit.ts'
import { beginHeaders, progressHeaders, tusAnswers } from './document.ts'
import { checksumOf, concatOf, lengthOf, metadataOf, requireMediaType, uploadMediaType } from './headers.ts'
import { describeProgress } from './upload.ts'

export default async function routes(app: FastifyInstance): Promise<void> {
  guardCreation(app)

  /**
   * Ends an upload whose client never learns its URL: the client would begin another one, which needs this one's room.
   */
  async function giveUp(named: Named): Promise<void> {
    await app.uploads.remove(named).catch((err) => app.log.info({ err, upload_id: named.id }, 'upload not given up'))
  }

  app.post(
    '/tus',
    {
      config: { readsBody: true, audit: 'upload.begin' },
      schema: {
        tags: ['client'],
        operationId: 'beginTusUpload',
        summary: 'Begin a resumable upload (tus 1.0.0) by a signed URL',
        description: 'Its destination is the path that was signed. `Location` is its own URL, with a token of its own.',
        [requestBody]: bytesBody(uploadMediaType, { required: false }),
        [requestHeaders]: beginHeaders,
        [responseHeaders]: tusAnswers({ 201: ['Location', ...progressHeaders] }),
        querystring: TokenQuery,
        response: { 201: Type.Null(), ...problemResponses },
      },
    },
    async (request, reply) => {
      const { headers } = request
      const permission = permissionOf(request)
      const concat = concatOf(headers)
      const checksum = checksumOf(headers)
      const upload = {
        permission,
        maxBytes: uploadLimitOf(app.config, permission),
        metadata: metadataOf(headers),
      }
      const locate = ({ id, token }: Named) =>
        reply.code(201).header('location', `${app.publicUrl()}/upload/tus/${id}?token=${token}`)

      if (concat.kind === 'final') {
        const { parts, value } = concat
        const final = await app.uploads.concatenate({ ...upload, parts: value }, parts, request.abortSignal)
        return describeProgress(locate(final), await app.uploads.get(final)).send()
      }
      const size = lengthOf(headers)
      const bytes = announcedLengthOf(headers)
      if (bytes !== 0) {
        requireMediaType(headers)
        reply.beginTransfer()
      }
      if (concat.kind === 'whole' && isSmall(size, bytes) && checksum === undefined) {
        reply.willReadBody()
        const rate = rateOf(permission)
        const chunks = request.paced(bodyOf(request.raw, { rate }), rate)
        const stored = await app.uploads.storeSmall({ ...upload, size, chunks, signal: request.abortSignal })
        return describeProgress(locate(stored), stored.row).send()
      }
      const named = await app.uploads.create({ ...upload, kind: concat.kind, size })
      if (bytes === 0 && size !== 0) return describeProgress(locate(named), await app.uploads.get(named)).send()
      const read = (end: AbortSignal) => {
        reply.willReadBody()
        const rate = rateOf(permission)
        return request.paced(bodyOf(request.raw, { end, rate }), rate, end)
      }
      const append = { offset: 0, size: undefined, bytes, checksum, read }
      const row = await app.uploads.append(named, append).catch(async (error) => {
        await giveUp(named)
        throw error
      })
      return describeProgress(locate(named), row).send()
    },
  )
}

/** Whether all bytes come with the creation, and are few. */
function isSmall(size: number | undefined, bytes: number | undefined): size is number {
  return size !== undefined && size === bytes && size <= smallBytes
}
