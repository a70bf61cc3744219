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
