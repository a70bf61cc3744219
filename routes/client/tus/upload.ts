import { Type } from '@sinclair/typebox'
import type { FastifyContextConfig, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { bytesBody, requestBody } from '../../../plugins/request/openapi-document.ts'
import { type HeaderName, requestHeaders, responseHeaders } from '../../../plugins/request/openapi-headers.ts'
import { bodyOf } from '../../../plugins/transfer/body.ts'
import { rateOfUpload, type UploadRow } from '../../../plugins/vfolders/uploads/rows.ts'
import { problemResponses, Uuid } from '../../schemas.ts'
import { guardBegunUploads, TokenQuery, uploadOf } from '../scopes.ts'
import { announcedLengthOf } from '../upload-limit.ts'
import { appendHeaders, describedHeaders, progressHeaders, tusAnswers } from './document.ts'
import { checksumOf, declaredLengthOf, offsetOf, requireMediaType, uploadMediaType } from './headers.ts'

export const uploadUrl = '/tus/:upload'
export const uploadConfig: FastifyContextConfig = { readsBody: true, mayMissAnswer: true, audit: 'upload.append' }
export const uploadSchema = {
  tags: ['client'],
  params: Type.Object({ upload: Uuid }),
  querystring: TokenQuery,
}

export default async function routes(app: FastifyInstance): Promise<void> {
  guardBegunUploads(app)

  const schema = (operationId: string, summary: string, status: number, answered: HeaderName[]) => ({
    ...uploadSchema,
    operationId,
    summary,
    [requestHeaders]: ['Tus-Resumable'] satisfies HeaderName[],
    [responseHeaders]: tusAnswers({ [status]: answered }),
    response: { [status]: Type.Null(), ...problemResponses },
  })

  // As a list, since @fastify/swagger takes a mere HEAD for the shadow of a GET.
  app.route({
    method: ['HEAD'],
    url: uploadUrl,
    schema: schema('getTusOffset', 'Where a resumable upload goes on', 200, describedHeaders),
    handler: head,
  })
  const patched = {
    ...schema('appendToTusUpload', 'Go on with a resumable upload', 204, progressHeaders),
    [requestHeaders]: appendHeaders,
    [requestBody]: bytesBody(uploadMediaType, { required: true }),
  }
  app.patch(uploadUrl, { config: uploadConfig, schema: patched }, patch)
  const ended = schema('endTusUpload', 'End a resumable upload', 204, [])
  app.delete(uploadUrl, { config: { audit: 'upload.end' }, schema: ended }, terminate)
}

export async function head(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  return describe(reply.code(200), await request.server.uploads.settled(uploadOf(request))).send()
}

export async function patch(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { headers, server } = request
  const upload = uploadOf(request)
  const rate = rateOfUpload(upload.row)
  requireMediaType(headers)
  reply.beginTransfer()
  const row = await server.uploads.append(upload, {
    offset: offsetOf(headers),
    size: declaredLengthOf(headers),
    bytes: announcedLengthOf(headers),
    checksum: checksumOf(headers),
    read(end) {
      reply.willReadBody()
      return request.paced(bodyOf(request.raw, { end, rate }), rate, end)
    },
  })
  return describeProgress(reply.code(204), row).send()
}

export async function terminate(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  await request.server.uploads.remove(uploadOf(request))
  return reply.code(204).send()
}

/** What changes from request to request. */
export function describeProgress<R extends Pick<FastifyReply, 'header'>>(reply: R, row: UploadRow): R {
  reply.header('upload-offset', row.offset)
  reply.header('upload-expires', new Date(row.expires_at).toUTCString())
  if (row.sha256 !== null) {
    reply.header('repr-digest', `sha-256=:${Buffer.from(row.sha256, 'hex').toString('base64')}:`)
  }
  return reply
}

function describe(reply: FastifyReply, row: UploadRow): FastifyReply {
  reply.header('cache-control', 'no-store')
  if (row.size === null) reply.header('upload-defer-length', '1')
  else reply.header('upload-length', row.size)
  if (row.metadata !== null) reply.header('upload-metadata', row.metadata)
  if (row.kind === 'partial') reply.header('upload-concat', 'partial')
  if (row.kind === 'final') reply.header('upload-concat', row.parts ?? 'final;')
  return describeProgress(reply, row)
}
