import { type Static, Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { bytesBody, requestBody } from '../../../plugins/request/openapi-document.ts'
import { setOriginRequestId } from '../../../plugins/request/request-id.ts'
import { bodyOf } from '../../../plugins/transfer/body.ts'
import { rateOfUpload, type UploadRow } from '../../../plugins/vfolders/uploads/rows.ts'
import { problemResponses, Uuid } from '../../schemas.ts'
import { announcedLength } from '../upload-limit.ts'
import { checksumOf, declaredLength, offsetOf, requireMediaType, uploadMediaType } from './headers.ts'

const Params = Type.Object({ upload: Uuid })
const Query = Type.Object({ token: Type.Optional(Type.String()) })
interface Route {
  Params: Static<typeof Params>
  Querystring: Static<typeof Query>
}
type Request = FastifyRequest<Route>
type Reply = FastifyReply<Route>

export default async function routes(app: FastifyInstance): Promise<void> {
  const named = ({ params, query }: Request) => ({ id: params.upload, token: query.token })

  async function find(request: Request): Promise<UploadRow> {
    const row = await app.uploads.get(named(request))
    setOriginRequestId(request, row.origin_request_id)
    return row
  }

  async function head(request: Request, reply: Reply): Promise<Reply> {
    await find(request)
    return describe(reply.code(200), await app.uploads.settled(named(request))).send()
  }

  async function patch(request: Request, reply: Reply): Promise<Reply> {
    const rate = rateOfUpload(await find(request))
    const { headers } = request
    requireMediaType(headers)
    reply.beginTransfer()
    const row = await app.uploads.append(named(request), {
      offset: offsetOf(headers),
      size: declaredLength(headers),
      bytes: announcedLength(headers),
      checksum: checksumOf(headers),
      read(end) {
        reply.willReadBody()
        return request.paced(bodyOf(request.raw, { end, rate }), rate, end)
      },
    })
    return describeProgress(reply.code(204), row).send()
  }

  async function terminate(request: Request, reply: Reply): Promise<Reply> {
    await find(request)
    await app.uploads.remove(named(request))
    return reply.code(204).send()
  }

  const url = '/tus/:upload'
  const config = { readsBody: true, mayMissAnswer: true }
  const schema = (summary: string, status: number) => ({
    tags: ['client'],
    summary,
    security: [{ signedUrl: [] }],
    params: Params,
    querystring: Query,
    response: { [status]: Type.Null(), ...problemResponses },
  })

  app.options(url, { schema: schema('What of tus is supported', 204) }, async (_request, reply) =>
    reply.code(204).send(),
  )
  app.head<Route>(
    url,
    { config: { swagger: { exposeHeadRoute: true } }, schema: schema('Where a resumable upload goes on', 200) },
    head,
  )
  const patched = {
    ...schema('Go on with a resumable upload', 204),
    [requestBody]: bytesBody(uploadMediaType, { required: true }),
  }
  app.patch<Route>(url, { config, schema: patched }, patch)
  app.delete<Route>(url, { schema: schema('End a resumable upload', 204) }, terminate)

  // For clients behind something that lets only GET and POST through.
  const methods = new Map([
    ['HEAD', head],
    ['PATCH', patch],
    ['DELETE', terminate],
  ])
  const overridden = {
    ...schema('The same, named by X-HTTP-Method-Override', 204),
    description: 'HEAD, PATCH or DELETE',
    [requestBody]: bytesBody(uploadMediaType, { required: false }),
    response: {
      200: Type.Null({ description: 'to a HEAD' }),
      204: Type.Null({ description: 'to a PATCH or DELETE' }),
      ...problemResponses,
    },
  }
  app.post<Route>(url, { config, schema: overridden }, async (request, reply) => {
    const method = request.headers['x-http-method-override']
    const handler = methods.get(String(method))
    if (handler !== undefined) return handler(request, reply)
    throw new Problem('invalid_header', `X-HTTP-Method-Override must be one of ${[...methods.keys()].join(', ')}.`)
  })
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

function describe(reply: Reply, row: UploadRow): Reply {
  reply.header('cache-control', 'no-store')
  if (row.size === null) reply.header('upload-defer-length', '1')
  else reply.header('upload-length', row.size)
  if (row.metadata !== null) reply.header('upload-metadata', row.metadata)
  if (row.kind === 'partial') reply.header('upload-concat', 'partial')
  if (row.kind === 'final') reply.header('upload-concat', row.parts ?? 'final;')
  return describeProgress(reply, row)
}
