import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Problem, type ProblemCode, problems } from '../../lib/problems.ts'
import { createErrorHandler, problemMediaType } from '../../plugins/request/errors.ts'
import { Refusal } from './refusal.ts'

/** The body of an error, as Backend.AI has it. `error_code` is DOMAIN_OPERATION_DETAIL, and its manager goes by the first. */
interface BackendAiProblem {
  type: string
  title: string
  error_code?: string
  msg?: string
  data?: unknown
}

interface Kind {
  /** Absent: that of our problem. */
  status?: number
  /** What follows `https://api.backend.ai/probs/storage/`. */
  type: string
  title: string
  code: string
}

const invalidParameters = { status: 400, type: 'invalid-api-params', title: 'Invalid API parameters' }
const vfolderNotFound = {
  type: 'vfolder/not-found',
  title: 'VFolder Not Found',
  code: 'vfolder_read_not-found',
}

const invalidSubpath = {
  status: 400,
  type: 'subpath/invalid',
  title: 'Invalid Subpath',
  code: 'vfolder_access_invalid-parameters',
}

/** Those whose name there is another one than ours; all others are told as `vfolder_access_` and our code. */
const kinds: Partial<Record<ProblemCode, Kind>> = {
  vfolder_not_found: vfolderNotFound,
  vfolder_trashed: vfolderNotFound,
  quota_scope_not_found: {
    type: 'quota/scope/not-found',
    title: 'Quota Scope Not Found',
    code: 'quota-scope_read_not-found',
  },
  // In the domain of vfolders, or the manager would take it for a failure of its own.
  volume_not_found: {
    status: 400,
    type: 'volume/invalid',
    title: 'Invalid Volume',
    code: 'vfolder_access_invalid-parameters',
  },
  invalid_path: invalidSubpath,
  outside_vfolder: invalidSubpath,
  invalid_operation: {
    status: 400,
    type: 'vfolder/invalid-operation',
    title: 'Invalid operation',
    code: 'vfolder_access_invalid-operation',
  },
  capability_missing: {
    status: 400,
    type: 'unsupported-operation',
    title: 'Unsupported operation by the storage backend',
    code: 'vfolder_access_unsupported',
  },
  upload_offset_mismatch: {
    type: 'upload-offset-mismatch',
    title: 'Upload Offset Mismatch',
    code: 'storage-proxy_update_conflict',
  },
  upload_not_found: {
    type: 'upload-session/not-found',
    title: 'Upload Session Not Found',
    code: 'storage-proxy_read_not-found',
  },
}

/** What an operating system would have said, with the number and the words that Linux has for it. */
const systemErrors: Partial<Record<ProblemCode, { errno: number; msg: string }>> = {
  entry_not_found: { errno: 2, msg: 'No such file or directory' },
  entry_access_denied: { errno: 13, msg: 'Permission denied' },
  entry_exists: { errno: 17, msg: 'File exists' },
  not_a_directory: { errno: 20, msg: 'Not a directory' },
  is_a_directory: { errno: 21, msg: 'Is a directory' },
  directory_not_empty: { errno: 39, msg: 'Directory not empty' },
}

/** About the parameters: they have no `error_code` there, but name the field. */
const aboutParameters: ProblemCode[] = ['validation_failed', 'malformed_json', 'unsupported_media_type', 'bad_request']

/** A status that not every HTTP library knows would be an exception there. */
const unregistered: Partial<Record<number, number>> = { 460: 400 }

function toSystemError(problem: Problem, request: FastifyRequest) {
  const known = systemErrors[problem.code]
  if (known === undefined) return undefined
  const { paths = pathsOf(request.body) } = problem.members
  return { msg: known.msg, errno: known.errno, paths }
}

/** The paths that a request is about. */
function pathsOf(body: unknown): unknown[] {
  const { relpath, src_relpath = relpath } = Object(body)
  return src_relpath === undefined ? [] : [src_relpath].flat()
}

export function toBackendAiProblem({ code, message, members }: Problem): BackendAiProblem {
  const { title } = problems[code]
  if (aboutParameters.includes(code)) {
    const { field = '', rule = message } = members
    const why = String(rule).replace(/^must have required property.*/, 'is required')
    return { ...told(invalidParameters), data: { [String(field)]: why } }
  }
  const kind = kinds[code] ?? {
    type: code.replaceAll('_', '-'),
    title,
    code: `vfolder_access_${code.replaceAll('_', '-')}`,
  }
  return { ...told(kind), error_code: kind.code, msg: message }
}

function told({ type, title }: Pick<Kind, 'type' | 'title'>) {
  return { type: `https://api.backend.ai/probs/storage/${type}`, title }
}

function statusOf(code: ProblemCode): number {
  const { status } = problems[code]
  if (aboutParameters.includes(code)) return invalidParameters.status
  return kinds[code]?.status ?? unregistered[status] ?? status
}

function send(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.serializer(JSON.stringify)
  if (problem instanceof Refusal) {
    return reply.code(problem.status).type(problem.mediaType).send(problem.body)
  }
  const system = toSystemError(problem, request)
  if (system !== undefined) return reply.code(400).type('application/json').send(system)
  return reply.code(statusOf(problem.code)).type(problemMediaType).send(toBackendAiProblem(problem))
}

/** Answers every error as Backend.AI's storage-proxy would: always JSON, and with the status and the code that decide there. */
export const answerError = createErrorHandler(send)
