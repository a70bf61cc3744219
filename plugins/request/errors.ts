import type { IncomingMessage } from 'node:http'
import type { Static } from '@sinclair/typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyBaseLogger, FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { BackendError } from '../../backends/errors.ts'
import { isRefusal, Problem, type ProblemCode, problems, toProblem } from '../../lib/problems.ts'
import { begin, end } from './connection/current.ts'
import { drain } from './connection/drain.ts'
import { headersForPages, isForPages } from './cors.ts'
import { withoutToken } from './logging.ts'
import { requestIdHeader, warnIfReplaced } from './request-id.ts'
import { pathKeyword } from './validation.ts'

declare module 'fastify' {
  interface FastifyReply {
    /** Of the problem that it tells, if it is one. */
    problemCode: ProblemCode | null
  }
}

export const problemMediaType = 'application/problem+json'

/** The body of every error (RFC 9457). */
export const ProblemDocument = Type.Object(
  {
    type: Type.String({ description: 'a URN that ends in the code' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String({ description: 'what is wrong with this very request' }),
    code: Type.String({ description: 'stable; compare this one' }),
    requestId: Type.String(),
  },
  {
    $id: 'Problem',
    title: 'Problem',
    additionalProperties: true,
    examples: [
      {
        type: 'urn:storage-proxy:problem:vfolder_not_found',
        title: 'There is no such vfolder',
        status: 404,
        detail: 'There is no vfolder 0198c7a2-51d3-7c4e-9a27-6f1d0f3b8e11.',
        code: 'vfolder_not_found',
        requestId: 'tour-1',
      },
    ],
  },
)

export function toDocument(
  problem: Problem,
  requestId: string,
): Static<typeof ProblemDocument> & Record<string, unknown> {
  const { status, title } = problems[problem.code]
  return {
    type: `urn:storage-proxy:problem:${problem.code}`,
    title,
    status,
    detail: problem.message,
    code: problem.code,
    requestId,
    ...problem.members,
  }
}

/** Fastify's own errors, and those of its plugins, that a caller can do something about. */
const frameworkCodes: Record<string, ProblemCode> = {
  FST_ERR_CTP_INVALID_JSON_BODY: 'malformed_json',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'malformed_json',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'size_mismatch',
  FST_ERR_BAD_URL: 'invalid_url',
  FST_ERR_MAX_PARAM_LENGTH: 'url_too_long',
  FST_INVALID_MULTIPART_CONTENT_TYPE: 'unsupported_media_type',
}

/** For cases in which Fastify says too little, or repeats the URL and with it a token. */
const frameworkDetails: Record<string, (request: FastifyRequest) => string> = {
  FST_ERR_BAD_URL: () => 'The path of the URL must be percent-encoded UTF-8.',
  FST_ERR_CTP_BODY_TOO_LARGE: ({ routeOptions }) => `The body is over the limit of ${routeOptions.bodyLimit} bytes.`,
  FST_ERR_CTP_INVALID_MEDIA_TYPE: expectedMediaTypeOf,
  FST_INVALID_MULTIPART_CONTENT_TYPE: expectedMediaTypeOf,
}

function expectedMediaTypeOf({ routeOptions: { schema, config } }: FastifyRequest): string {
  const takesAny = config.readsBody && schema?.consumes === undefined
  const types = takesAny ? 'a well-formed media type' : (schema?.consumes ?? ['application/json']).join(' or ')
  return `Content-Type must be ${types}.`
}

/** As `toProblem`, but knows Fastify's errors and those of its plugins too. */
export function toRequestProblem(error: unknown, request: FastifyRequest): Problem {
  return (isFastifyError(error) && toFrameworkProblem(error, request)) || toProblem(error)
}

function toFrameworkProblem(error: FastifyError, request: FastifyRequest): Problem | undefined {
  if (error instanceof Problem || error instanceof BackendError) return undefined
  if (error.validation !== undefined) return toValidationProblem(error, request)
  const code = frameworkCodes[error.code]
  const detail = frameworkDetails[error.code]?.(request) ?? error.message
  if (code !== undefined) return new Problem(code, detail, { cause: error })
  const isCallersDoing = error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500
  return isCallersDoing ? new Problem('bad_request', error.message, { cause: error }) : undefined
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
}

/** Names the field, as the caller wrote it, and the rule. */
function toValidationProblem(error: FastifyError, request: FastifyRequest): Problem {
  const [first] = error.validation ?? []
  const path = (first?.instancePath ?? '').slice(1).replaceAll('/', '.').replace('*', 'path')
  const { missingProperty, additionalProperty } = first?.params ?? {}
  const field = [path, missingProperty ?? additionalProperty].filter(Boolean).join('.')
  const allowed = allowedValuesOf(error)
  const broken = allowed.length > 0 ? `must be one of ${allowed.join(', ')}` : (first?.message ?? 'must be valid')
  const rule = additionalProperty === undefined ? broken : 'is not a known field'
  const part = error.validationContext ?? 'request'
  const sentence = missingProperty === undefined ? `${part} ${field} ${rule}` : `${part} must have ${field}`
  // Who mistyped a URL does not know that a part of it is an ID.
  const detail = part === 'params' ? `${sentence}; the URL was taken for ${templateOf(request)}` : sentence
  const code = first?.keyword === pathKeyword ? 'invalid_path' : 'validation_failed'
  return new Problem(code, detail.replace('  ', ' '), { members: { field, rule, in: part } })
}

/** The route, as the OpenAPI document has it. */
function templateOf({ method, routeOptions: { url = '' } }: FastifyRequest): string {
  return `${method} ${url.replace(/:(\w+)/g, '{$1}').replace(/\*$/, '{path}')}`
}

/** Where one of several literals is expected, each of them is reported as not met. */
function allowedValuesOf({ validation: [first, ...others] = [] }: FastifyError): unknown[] {
  if (first?.keyword !== 'const') return []
  const alike = others.filter(({ keyword, instancePath }) => keyword === 'const' && instancePath === first.instancePath)
  return [first, ...alike].map(({ params }) => params.allowedValue)
}

/** By the URL that was asked for, should another one stand for it. */
export function routeNotFound(request: Pick<IncomingMessage, 'method' | 'url'> & { originalUrl?: string }): Problem {
  const { method, url = '', originalUrl = url } = request
  const path = withoutToken(originalUrl.split('?')[0] ?? '')
  return new Problem('route_not_found', `There is nothing at ${method} ${path}.`)
}

/** Scopes set it too, so that their hooks run for unknown paths below their prefix. */
export function handleNotFound(request: FastifyRequest): never {
  throw routeNotFound(request)
}

type SendProblem = (problem: Problem, request: FastifyRequest, reply: FastifyReply) => FastifyReply

/** Logs what a step throws, and answers it by `send`: a scope whose clients know another form of errors has its own. */
export function createErrorHandler(send: SendProblem) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const problem = toRequestProblem(error, request)
    const { status } = problems[problem.code]
    reply.problemCode = problem.code
    const log = { err: problem.cause ?? problem, code: problem.code }
    // "request aborted" says it all: an error that follows from the abort is no failure of its own.
    if (reply.raw.destroyed || request.abortSignal.aborted) request.log.debug(log, problem.message)
    else if (!isRefusal(problem.code)) request.log.error(log, problem.message)
    else logRefusal(problem, request.log)
    // The headers of the answer that failed would describe this one wrongly.
    for (const name of ['content-length', 'content-disposition', 'content-encoding', 'etag', 'last-modified']) {
      reply.removeHeader(name)
    }
    const retry = status === 503 && problems[problem.code].passing && retryAfter
    return send(problem, request, reply.headers({ ...retry, ...problem.headers }))
  }
}

export function logRefusal(problem: Problem, log: FastifyBaseLogger): void {
  const { status } = problems[problem.code]
  log.info({ status, code: problem.code, detail: problem.message }, 'request refused')
}

/** After what is over by itself; asking again sooner only adds to the load. */
const retryAfter = { 'retry-after': '5' }

function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { status } = problems[problem.code]
  if (isForPages(request.url)) reply.headers(headersForPages(request.server.config, request.headers.origin))
  return reply.code(status).type(problemMediaType).serializer(JSON.stringify).send(toDocument(problem, request.id))
}

/** Fastify's `frameworkErrors`: a request that no route could be looked up for; it runs no hooks but `onSend`. */
export function handleFrameworkError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const problem = toRequestProblem(error, request)
  const begun = performance.now()
  // Fastify logs the beginning of such a request, and not its end.
  reply.raw.once('finish', () => {
    request.log.info({ res: reply, responseTime: performance.now() - begun }, 'request completed')
  })
  begin(request, reply)
  reply.raw.once('close', () => {
    end(request, reply)
    drain(request)
  })
  warnIfReplaced(request.raw, request.id, request.log)
  logRefusal(problem, request.log)
  reply.header(requestIdHeader, request.id)
  sendProblem(problem, request, reply.headers(problem.headers))
}

/** Answers every error, and every request without a route, with a problem document. */
export default fp(
  async (app) => {
    app.addSchema(ProblemDocument)
    app.decorateReply('problemCode', null)
    app.setErrorHandler(createErrorHandler(sendProblem))
    app.setNotFoundHandler(handleNotFound)
    // Before its body is looked at: a client with a wrong URL must not be told about something else.
    app.addHook('preParsing', (request, _reply, payload, done) => {
      if (request.is404) done(routeNotFound(request))
      else done(null, payload)
    })
  },
  { name: 'errors', dependencies: ['request-id', 'connection-abort', 'config'] },
)
