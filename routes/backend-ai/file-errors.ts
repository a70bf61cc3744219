import { type ProblemCode, toProblem } from '../../lib/problems.ts'
import { answerError } from './errors.ts'
import { fileNotFound, Refusal } from './refusal.ts'

const tokenRules: Partial<Record<ProblemCode, string>> = {
  token_required: 'is required',
  token_invalid: 'was not signed here, or was altered, or its key is retired',
  token_expired: 'has expired',
  token_not_for_this: 'is for something else',
}

/** Errors that are told otherwise than in the manager's calls about vfolders. */
function toFileError(error: unknown): unknown {
  if (error instanceof Refusal) return error
  const problem = toProblem(error)
  const refuse = (status: number, type: string, title: string, more: object) =>
    new Refusal(problem.code, problem.message, {
      status,
      body: { type: `https://api.backend.ai/probs/storage/${type}`, title, ...more },
    })
  const rule = tokenRules[problem.code]
  if (rule !== undefined) return refuse(400, 'invalid-api-params', 'Invalid API parameters', { data: { token: rule } })
  if (problem.code === 'entry_not_found') return fileNotFound(problem.message)
  if (problem.code === 'is_a_directory') {
    const more = { error_code: 'storage-proxy_request_invalid-parameters', msg: 'The file is not a regular file.' }
    return refuse(400, 'invalid-api-params', 'Invalid API parameters', more)
  }
  return error
}

/** The error handler of scopes whose callers name one file, by a token or a key: one that is missing is 404. */
export const answerFileError: typeof answerError = (error, request, reply) =>
  answerError(toFileError(error), request, reply)
