import { BackendError, type BackendErrorCode } from '../backends/errors.ts'

interface Kind {
  status: number
  title: string
  /** The same call may well succeed a little later. */
  passing?: true
}

/** Every error code of the API. Codes are stable; clients compare them. */
const kinds = {
  // The request
  bad_request: { status: 400, title: 'The request cannot be read' },
  validation_failed: { status: 400, title: 'The request does not fit the schema' },
  malformed_json: { status: 400, title: 'The body is not JSON' },
  malformed_multipart: { status: 400, title: 'The body is not a complete multipart form' },
  invalid_path: { status: 400, title: 'The path is not allowed' },
  invalid_url: { status: 400, title: 'The URL cannot be decoded' },
  selection_too_large: { status: 400, title: 'The selection does not fit into a URL' },
  invalid_cursor: { status: 400, title: 'The cursor is not one that this API gave' },
  size_mismatch: { status: 400, title: 'The body does not have the announced size' },
  digest_mismatch: { status: 400, title: 'The body does not have the announced digest' },
  invalid_header: { status: 400, title: 'A header field does not fit' },
  token_required: { status: 401, title: 'A token is required' },
  token_invalid: { status: 401, title: 'The token is not valid' },
  token_expired: { status: 401, title: 'The token has expired' },
  token_not_for_this: { status: 403, title: 'The token is for something else' },
  entry_access_denied: { status: 403, title: 'The storage does not let the service do this to the entry' },
  outside_vfolder: { status: 403, title: 'The path leads out of the vfolder' },
  route_not_found: { status: 404, title: 'There is no such route' },
  method_not_allowed: { status: 405, title: 'The path does not take this method' },
  request_timeout: { status: 408, title: 'The request took too long to arrive' },
  length_required: { status: 411, title: 'The length of the body is required' },
  precondition_failed: { status: 412, title: 'A precondition does not hold' },
  body_too_large: { status: 413, title: 'The body is over its limit' },
  file_too_large: { status: 413, title: 'A file is over its limit' },
  url_too_long: { status: 414, title: 'The URL is too long' },
  unsupported_media_type: { status: 415, title: 'The media type or coding of the body is not supported here' },
  range_not_satisfiable: { status: 416, title: 'The range is outside the file' },
  expectation_failed: { status: 417, title: 'The expectation cannot be met' },
  too_many_requests: { status: 429, title: 'Too many requests in a minute' },
  too_many_uploads: { status: 429, title: 'Too many uploads of the signed URL are open' },
  headers_too_large: { status: 431, title: 'The header fields are over their limit' },
  // What it names
  volume_not_found: { status: 404, title: 'There is no such volume' },
  vfolder_not_found: { status: 404, title: 'There is no such vfolder' },
  vfolder_trashed: { status: 404, title: 'The vfolder is in the trash' },
  trashed_entry_not_found: { status: 404, title: 'There is no such entry in the trash' },
  entry_not_found: { status: 404, title: 'There is no such entry' },
  job_not_found: { status: 404, title: 'There is no such job' },
  request_not_known: { status: 404, title: 'Nothing is known of the request ID' },
  quota_scope_not_found: { status: 404, title: 'There is no such quota scope' },
  event_target_not_found: { status: 404, title: 'Nobody is told of events by that name' },
  upload_not_found: { status: 404, title: 'There is no such upload' },
  events_forgotten: { status: 410, title: 'Some of these events are not kept any more' },
  upload_expired: { status: 410, title: 'The upload has expired' },
  upload_finished: { status: 403, title: 'The upload takes nothing more' },
  upload_offset_mismatch: { status: 409, title: 'The upload goes on from another offset' },
  upload_interrupted: { status: 409, title: 'Another request came in between with the upload' },
  work_ended: { status: 409, title: 'The manager has ended the work' },
  upload_incomplete: { status: 409, title: 'The upload is not complete' },
  upload_locked: { status: 423, title: 'Another request holds the upload' },
  checksum_mismatch: { status: 460, title: 'The bytes do not have the announced checksum' },
  tus_version_unsupported: { status: 412, title: 'The version of the tus protocol is not supported' },
  vfolder_exists: { status: 409, title: 'The vfolder exists already' },
  vfolder_orphaned: { status: 409, title: 'There are files of an earlier vfolder of that ID' },
  vfolder_cloning: { status: 409, title: 'The vfolder is not whole yet' },
  job_ended: { status: 409, title: 'The job has ended already' },
  job_not_ended: { status: 409, title: 'The job has not ended yet' },
  job_not_retryable: { status: 409, title: 'The job cannot be tried once more' },
  job_not_cancellable: { status: 409, title: 'A job of this kind cannot be cancelled' },
  trashed_entry_busy: { status: 409, title: 'The entry in the trash is being restored or removed' },
  entry_exists: { status: 409, title: 'The entry exists already' },
  is_a_directory: { status: 409, title: 'The entry is a directory' },
  not_a_directory: { status: 409, title: 'The entry is not a directory' },
  not_a_file: { status: 409, title: 'The entry is not a file' },
  directory_not_empty: { status: 409, title: 'The directory is not empty' },
  source_changed: { status: 409, title: 'The source changed while it was read' },
  invalid_operation: { status: 409, title: 'The operation is not possible here' },
  // The storage and the service
  internal_error: { status: 500, title: 'Something went wrong in the service', passing: true },
  job_abandoned: { status: 500, title: 'The job ended the process that ran it, again and again' },
  storage_access_denied: { status: 503, title: 'The storage refuses the service' },
  method_unknown: { status: 501, title: 'The method is not known here' },
  transfer_coding_unsupported: { status: 501, title: 'The transfer coding of the body is not supported' },
  events_off: { status: 501, title: 'The service writes no events down' },
  capability_missing: { status: 501, title: 'The volume cannot do this' },
  database_busy: { status: 503, title: 'The database is busy', passing: true },
  database_unavailable: { status: 503, title: 'The database does not work', passing: true },
  audit_unavailable: { status: 503, title: 'What is done cannot be written into the audit table', passing: true },
  overloaded: { status: 503, title: 'The process has too much to do', passing: true },
  too_many_transfers: { status: 503, title: 'Too many transfers are open', passing: true },
  too_many_followers: { status: 503, title: 'Too many followers of jobs or events', passing: true },
  too_many_calls: { status: 503, title: 'Too many calls of the volume wait for their turn', passing: true },
  storage_tool_failed: { status: 503, title: 'The tool of the storage fails', passing: true },
  entry_busy: { status: 503, title: 'Another writer of the entry does not come to its end', passing: true },
  storage_unavailable: { status: 503, title: 'The storage is not available', passing: true },
  volume_unavailable: { status: 503, title: 'The volume cannot be used', passing: true },
  no_space: { status: 507, title: 'The volume is full, or too full for this' },
  quota_exceeded: { status: 507, title: 'A quota leaves too little room' },
} satisfies Record<BackendErrorCode, Kind> & Record<string, Kind>

export type ProblemCode = keyof typeof kinds

export const problems: Record<ProblemCode, Kind> = kinds

function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(problems, code)
}

/** An error that the service answers with a problem document (RFC 9457). */
export class Problem extends Error {
  readonly code: ProblemCode
  /** Further members of the document, such as the numbers of a limit. */
  readonly members: Record<string, unknown>
  readonly headers: Record<string, string>

  constructor(
    code: ProblemCode,
    detail: string,
    options: { cause?: unknown; members?: Record<string, unknown>; headers?: Record<string, string> } = {},
  ) {
    super(detail, { cause: options.cause })
    this.code = code
    this.members = options.members ?? {}
    this.headers = options.headers ?? {}
  }
}

/** Codes that are no failure of the service, though their status says so. */
const refusals: ProblemCode[] = [
  'quota_exceeded',
  'capability_missing',
  'too_many_transfers',
  'too_many_followers',
  'too_many_calls',
  'overloaded',
  'transfer_coding_unsupported',
]

/** Whether it is the caller's doing, or a limit that was set, and no failure of the service. */
export function isRefusal(code: ProblemCode): boolean {
  return problems[code].status < 500 || refusals.includes(code)
}

/** Where a request breaks a rule. */
export type RequestPart = 'body' | 'headers' | 'params' | 'querystring'

/** A field that breaks a rule; the text tells both to people, the members to programs. */
export function invalid(part: RequestPart, field: string, rule: string): Problem {
  return new Problem('validation_failed', `${part} ${field} ${rule}`, { members: { field, rule, in: part } })
}

/** A header field that breaks a rule. */
export function invalidHeader(name: string, rule: string): Problem {
  const members = { field: name.toLowerCase(), rule, in: 'headers' }
  return new Problem('invalid_header', `${name} ${rule}.`, { members })
}

/** Gives every error its code; an unforeseen error is an `internal_error`, which tells the caller nothing more. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  if (error instanceof BackendError && isProblemCode(error.code)) {
    return new Problem(error.code, error.message, { cause: error })
  }
  if (error instanceof Error && 'code' in error) {
    const { code, message, cause } = error
    if (code === 'database_busy') return new Problem(code, 'The database is held by somebody else.', { cause })
    if (code === 'database_unavailable') return new Problem(code, `The database fails: ${message}.`, { cause })
  }
  return new Problem('internal_error', 'The request failed; the log has the reason under its request ID.', {
    cause: error,
  })
}

/** The same problem with further members, such as what was done before it. */
export function withMembers(problem: Problem, members: Record<string, unknown>): Problem {
  const { code, message, headers, members: own, cause = problem } = problem
  return new Problem(code, message, { cause, headers, members: { ...own, ...members } })
}
