import { Problem, type ProblemCode } from '../../lib/problems.ts'

/** A part that breaks a rule; `field` is the name of its input. */
export function refusePart(code: ProblemCode, field: string, rule: string): Problem {
  return new Problem(code, `body ${field} ${rule}`, { members: { field, rule, in: 'body' } })
}
