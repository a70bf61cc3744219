import { Problem, type ProblemCode } from '../../lib/problems.ts'
import { problemMediaType } from '../../plugins/request/errors.ts'

/** A problem that Backend.AI answers in a form of its own, whatever the other problems of that code look like. */
export class Refusal extends Problem {
  readonly status: number
  readonly body: Record<string, unknown>
  readonly mediaType: string

  constructor(
    code: ProblemCode,
    detail: string,
    {
      status,
      body,
      mediaType = problemMediaType,
    }: { status: number; body: Record<string, unknown>; mediaType?: string },
  ) {
    super(code, detail)
    this.status = status
    this.body = body
    this.mediaType = mediaType
  }
}

/** A file that is to be read and is not there: 404, though a system error is 400. */
export function fileNotFound(detail: string): Refusal {
  const body = { type: 'https://api.backend.ai/probs/storage/file-not-found', title: 'File not found' }
  return new Refusal('entry_not_found', detail, { status: 404, body })
}
