import { Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Problem } from '../../../lib/problems.ts'
import { bytesBody, requestBody } from '../../../plugins/request/openapi-document.ts'
import { type HeaderName, requestHeaders, responseHeaders } from '../../../plugins/request/openapi-headers.ts'
import { refuseBody } from '../../../plugins/request/request-body.ts'
import { problemResponses } from '../../schemas.ts'
import { guardBegunUploads } from '../scopes.ts'
import { appendHeaders, describedHeaders, progressHeaders, tusAnswers } from './document.ts'
import { uploadMediaType } from './headers.ts'
import { head, patch, terminate, uploadConfig, uploadSchema, uploadUrl } from './upload.ts'

const handlers = new Map([
  ['HEAD', head],
  ['PATCH', patch],
  ['DELETE', terminate],
])

/** For clients behind something that lets only GET and POST through. */
export default async function routes(app: FastifyInstance): Promise<void> {
  // Before the guard: what cannot be understood needs no token to be refused.
  app.addHook('preHandler', async (request) => {
    handlerOf(request)
  })
  guardBegunUploads(app)

  const schema = {
    ...uploadSchema,
    operationId: 'overrideTusMethod',
    summary: 'The same, named by X-HTTP-Method-Override',
    description: 'HEAD, PATCH or DELETE',
    [requestBody]: bytesBody(uploadMediaType, { required: false }),
    [requestHeaders]: ['X-HTTP-Method-Override', ...appendHeaders] satisfies HeaderName[],
    [responseHeaders]: tusAnswers({ 200: describedHeaders, 204: progressHeaders }),
    response: {
      200: Type.Null({ description: 'to a HEAD' }),
      204: Type.Null({ description: 'to a PATCH or DELETE' }),
      ...problemResponses,
    },
  }
  app.post(uploadUrl, { config: uploadConfig, schema }, async (request, reply) => {
    const handler = handlerOf(request)
    if (handler !== patch) await refuseBody(request, reply)
    if (handler === terminate) request.auditFacts = { ...request.auditFacts, action: 'upload.end' }
    if (handler === head) request.audited = null
    return handler(request, reply)
  })
}

function handlerOf({ headers }: FastifyRequest) {
  const handler = handlers.get(String(headers['x-http-method-override']))
  if (handler !== undefined) return handler
  throw new Problem('invalid_header', `X-HTTP-Method-Override must be one of ${[...handlers.keys()].join(', ')}.`)
}
