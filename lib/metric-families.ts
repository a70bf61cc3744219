import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'

const Labels = Type.Record(Type.String(), Type.Union([Type.String(), Type.Number()]))
const Exemplar = Type.Object({
  labelSet: Type.Record(Type.String(), Type.String()),
  value: Type.Number(),
  timestamp: Type.Number(),
})
const Sample = Type.Object({
  labels: Labels,
  value: Type.Number(),
  /** That of the family where absent. */
  metricName: Type.Optional(Type.String()),
  exemplar: Type.Optional(Exemplar),
})
const Family = Type.Object({
  name: Type.String(),
  help: Type.String(),
  type: Type.Union([
    Type.Literal('counter'),
    Type.Literal('gauge'),
    Type.Literal('histogram'),
    Type.Literal('summary'),
  ]),
  /** How those of several processes become one, in prom-client's words. */
  aggregator: Type.Union([
    Type.Literal('sum'),
    Type.Literal('first'),
    Type.Literal('min'),
    Type.Literal('max'),
    Type.Literal('average'),
    Type.Literal('omit'),
  ]),
  values: Type.Array(Sample),
})

/** The metrics of a process: what prom-client's `getMetricsAsJSON` gives, and processes send each other. */
export type Family = Static<typeof Family>
export type Sample = Static<typeof Sample>
export type Labels = Static<typeof Labels>
export type Exemplar = Static<typeof Exemplar>

const families = TypeCompiler.Compile(Type.Array(Family))

/** What prom-client gives, without the numbers that JSON has not, such as the mean of nothing. */
export function toFamilies(value: unknown): Family[] {
  const given: unknown = JSON.parse(JSON.stringify(value, withoutOdd))
  if (families.Check(given)) return given
  const { path, message } = families.Errors(given).First() ?? {}
  throw new Error(`these are no metrics: ${path} ${message}`)
}

function withoutOdd(name: string, member: unknown): unknown {
  if (name === 'exemplar' && member === null) return undefined
  if (!Array.isArray(member)) return member
  return member.filter((one) => typeof one?.value !== 'number' || Number.isFinite(one.value))
}

const id = Type.String()
const Message = Type.Union([
  Type.Object({ metrics: Type.Literal('ask'), id }),
  Type.Object({ metrics: Type.Literal('give'), id }),
  Type.Object({ metrics: Type.Literal('given'), id, families: Type.Array(Family) }),
  Type.Object({ metrics: Type.Literal('all'), id, processes: Type.Array(Type.Array(Family)) }),
])
const messages = TypeCompiler.Compile(Message)

/**
 * What a worker and its supervisor say: the worker that is scraped asks, the supervisor has all workers give theirs, and
 * hands all of them to the one that asked.
 */
export type MetricsMessage = Static<typeof Message>

/** Undefined for what is about something else. */
export function parseMetricsMessage(message: unknown): MetricsMessage | undefined {
  return messages.Check(message) ? message : undefined
}
