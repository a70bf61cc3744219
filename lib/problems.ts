import type { BackendErrorCode } from '../backends/errors.ts'

/** Every error code of the API with its status and title. Codes are stable; clients compare them. */
export const problems = {
  // The request
  bad_request: [400, 'The request cannot be read'],
  validation_failed: [400, 'The request does not fit the schema'],
  malformed_json: [400, 'The body is not JSON'],
  malformed_multipart: [400, 'The body is not a complete multipart form'],
  invalid_path: [400, 'The path is not allowed'],
  invalid_url: [400, 'The URL cannot be decoded'],
  selection_too_large: [400, 'The selection does not fit into a URL'],
  invalid_cursor: [400, 'The cursor is not one that this API gave'],
  size_mismatch: [400, 'The body does not have the announced size'],
  digest_mismatch: [400, 'The body does not have the announced digest'],
  invalid_header: [400, 'A header field cannot be read'],
  token_required: [401, 'A token is required'],
  token_invalid: [401, 'The token is not valid'],
  token_expired: [401, 'The token has expired'],
  token_not_for_this: [403, 'The token is for something else'],
  outside_vfolder: [403, 'The path leads out of the vfolder'],
  route_not_found: [404, 'There is no such route'],
  request_timeout: [408, 'The request took too long to arrive'],
  precondition_failed: [412, 'A precondition does not hold'],
  body_too_large: [413, 'The body is over its limit'],
  file_too_large: [413, 'A file is over its limit'],
  url_too_long: [414, 'The URL is too long'],
  unsupported_media_type: [415, 'The media type of the body is not supported here'],
  range_not_satisfiable: [416, 'The range is outside the file'],
  expectation_failed: [417, 'The expectation cannot be met'],
  headers_too_large: [431, 'The header fields are over their limit'],
  // What it names
  volume_not_found: [404, 'There is no such volume'],
  vfolder_not_found: [404, 'There is no such vfolder'],
  entry_not_found: [404, 'There is no such entry'],
  job_not_found: [404, 'There is no such job'],
  quota_scope_not_found: [404, 'There is no such quota scope'],
  upload_not_found: [404, 'There is no such upload'],
  upload_expired: [410, 'The upload has expired'],
  upload_finished: [403, 'The upload is finished'],
  upload_offset_mismatch: [409, 'The upload goes on from another offset'],
  upload_interrupted: [409, 'Another request goes on with the upload'],
  upload_incomplete: [409, 'A part of the upload is not complete'],
  upload_locked: [423, 'Another request does not let go of the upload'],
  checksum_mismatch: [460, 'The bytes do not have the announced checksum'],
  tus_version_unsupported: [412, 'The version of the tus protocol is not supported'],
  vfolder_exists: [409, 'The vfolder exists on another volume'],
  vfolder_cloning: [409, 'The vfolder is not whole yet'],
  job_ended: [409, 'The job has ended already'],
  job_not_cancellable: [409, 'A job of this kind cannot be cancelled'],
  entry_exists: [409, 'The entry exists already'],
  is_a_directory: [409, 'The entry is a directory'],
  not_a_directory: [409, 'The entry is not a directory'],
  not_a_file: [409, 'The entry is not a file'],
  directory_not_empty: [409, 'The directory is not empty'],
  source_changed: [409, 'The source changed while it was copied'],
  invalid_operation: [409, 'The operation is not possible here'],
  // The storage and the service
  internal_error: [500, 'Something went wrong in the service'],
  job_abandoned: [500, 'The job ended the process that ran it, again and again'],
  storage_access_denied: [500, 'The storage refuses the service'],
  transfer_coding_unsupported: [501, 'The transfer coding of the body is not supported'],
  capability_missing: [501, 'The volume cannot do this'],
  database_busy: [503, 'The database is busy'],
  too_many_transfers: [503, 'Too many transfers are open'],
  entry_busy: [503, 'Another writer of the entry does not come to its end'],
  storage_unavailable: [503, 'The storage is not available'],
  no_space: [507, 'The volume is full'],
  quota_exceeded: [507, 'A quota is reached'],
} as const satisfies Record<BackendErrorCode, readonly [number, string]> & Record<string, readonly [number, string]>

export type ProblemCode = keyof typeof problems

export function isProblemCode(code: string): code is ProblemCode {
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
