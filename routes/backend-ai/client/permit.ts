import { Type } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import type { EntryPath } from '../../../backends/path.ts'
import { type ProblemCode, toProblem } from '../../../lib/problems.ts'
import { setOriginRequestId } from '../../../plugins/request/request-id.ts'
import { answerError } from '../errors.ts'
import { Refusal } from '../refusal.ts'
import { parseRelpath } from '../relpath.ts'
import { readFlag } from '../schemas.ts'
import type { Claims, Tokens, Use } from '../token.ts'

/** Links are passed on, and grow: what is not known, or is empty, is passed over. */
export const ClientQuery = Type.Record(Type.String(), Type.String())

/** What the token of this request permits. @throws {Problem} `token_required`, `token_invalid` and such */
export function permit<U extends Use>(
  request: FastifyRequest,
  tokens: Tokens,
  use: U,
  token: string | undefined,
): Claims[U] {
  const claims = tokens.verify(use, token)
  if (claims.request_id !== undefined) setOriginRequestId(request, claims.request_id)
  return claims
}

/** The path of the token, in the directory that the client names. @throws {InvalidPath} when it leads out of the vfolder */
export function placeOf(relpath: string, directory = ''): EntryPath | '' {
  return parseRelpath(directory === '' ? relpath : `${directory}/${relpath}`)
}

/** A parameter that is absent, or empty, is false. */
export function flagOf(query: Record<string, string>, name: string): boolean {
  return readFlag(query[name] || false, name, 'querystring')
}

const tokenRules: Partial<Record<ProblemCode, string>> = {
  token_required: 'is required',
  token_invalid: 'was not signed here, or was altered, or its key is retired',
  token_expired: 'has expired',
  token_not_for_this: 'is for something else',
}

/** Errors that clients are told otherwise than the manager is. */
function toClientError(error: unknown): unknown {
  const problem = toProblem(error)
  const refuse = (status: number, type: string, title: string, more: object) =>
    new Refusal(problem.code, problem.message, {
      status,
      body: { type: `https://api.backend.ai/probs/storage/${type}`, title, ...more },
    })
  const rule = tokenRules[problem.code]
  if (rule !== undefined) return refuse(400, 'invalid-api-params', 'Invalid API parameters', { data: { token: rule } })
  if (problem.code === 'entry_not_found') {
    return refuse(404, 'file-not-found', 'File not found', {
      error_code: 'vfolder_read_not-found',
      msg: problem.message,
    })
  }
  if (problem.code === 'is_a_directory') {
    const more = { error_code: 'storage-proxy_request_invalid-parameters', msg: 'The file is not a regular file.' }
    return refuse(400, 'invalid-api-params', 'Invalid API parameters', more)
  }
  return error
}

/** The error handler of the scope of clients. */
export const answerClientError: typeof answerError = (error, request, reply) =>
  answerError(toClientError(error), request, reply)
