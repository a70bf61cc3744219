import { type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { Backend } from '../../backends/backend.ts'
import { type Capability, optionalMembers } from '../../backends/capabilities.ts'

// A backend that was written in JavaScript, or compiled with another version of the contract, may have any shape.

const call = Type.Function([], Type.Unknown())

const Definition = Type.Object({
  type: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' }),
  options: Type.Object({ type: Type.Literal('object'), additionalProperties: Type.Literal(false) }),
  timeoutSeconds: Type.Optional(Type.Integer({ minimum: 0 })),
  places: Type.Optional(call),
  create: call,
})

const required = {
  limits: Type.Object({
    maxFileBytes: Type.Integer({ minimum: 1 }),
    usageDelaySeconds: Type.Optional(Type.Number({ minimum: 0 })),
  }),
  createFolder: call,
  removeFolder: call,
  stat: call,
  list: call,
  read: call,
  write: call,
  beginUpload: call,
  appendUpload: call,
  readUpload: call,
  completeUpload: call,
  abortUpload: call,
  mkdir: call,
  move: call,
  remove: call,
  collectGarbage: call,
  health: call,
  close: call,
} satisfies Record<Exclude<keyof Backend, Capability>, TSchema>

const optional = Object.fromEntries(optionalMembers.map((capability) => [capability, Type.Optional(call)]))
const Members = Type.Object({ ...required, ...optional })

/** @throws with a sentence that names what is wrong */
export function checkDefinition(definition: unknown): void {
  check(Definition, definition, 'the definition of a backend')
}

/** @throws with a sentence that names the member that is missing, or is not what it must be */
export function checkBackend(type: string, backend: unknown): void {
  check(Members, backend, `the backend ${type}`)
}

function check(schema: TSchema, value: unknown, what: string): void {
  const wrong = Value.Errors(schema, value).First()
  if (wrong === undefined) return
  throw new Error(`${what} is wrong at ${wrong.path || '/'}: ${wrong.message.replace(/^E/, 'e')}`)
}
