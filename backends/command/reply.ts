import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import {
  AccessDenied,
  type BackendError,
  NoSpace,
  NotFound,
  QuotaExceeded,
  SourceChanged,
  ToolFailed,
  Unavailable,
} from '../errors.ts'

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

/** What a program answers when it has done what it was asked for. */
const replies = {
  quota: Type.Object({}, { additionalProperties: false }),
  usage: Type.Object({ bytes: Count, files: Type.Optional(Count) }, { additionalProperties: false }),
  clone: Type.Object({ bytes: Type.Optional(Count), files: Type.Optional(Count) }, { additionalProperties: false }),
}
type Replies = { [O in keyof typeof replies]: Static<(typeof replies)[O]> }

/** How a program says why it has not. The message is told to the caller. */
const errors: Record<string, new (message: string) => BackendError> = {
  entry_not_found: NotFound,
  no_space: NoSpace,
  quota_exceeded: QuotaExceeded,
  source_changed: SourceChanged,
  storage_access_denied: AccessDenied,
  storage_unavailable: Unavailable,
  storage_tool_failed: ToolFailed,
}

const Refusal = Type.Object(
  {
    error: Type.Object(
      {
        code: Type.Union(Object.keys(errors).map((code) => Type.Literal(code))),
        message: Type.String({ minLength: 1, maxLength: 1000 }),
      },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)
const isRefusal = TypeCompiler.Compile(Refusal)

/**
 * Reads what a program wrote to its standard output.
 * @throws {ToolFailed} with what is wrong with it, or the error that it stands for
 */
export function readReply<O extends keyof Replies>(operation: O, output: string): Replies[O]
export function readReply(operation: keyof Replies, output: string): unknown {
  const reply = parseJson(operation, output)
  if (isRefusal.Check(reply)) {
    const { code, message } = reply.error
    throw new (errors[code] ?? ToolFailed)(message)
  }
  const schema: TSchema = typeof reply === 'object' && reply !== null && 'error' in reply ? Refusal : replies[operation]
  const check = TypeCompiler.Compile(schema)
  if (check.Check(reply)) return reply
  const wrong = check.Errors(reply).First()
  const where =
    wrong === undefined
      ? ''
      : ` at ${wrong.path || '/'}: ${wrong.message.replace(/^./, (letter) => letter.toLowerCase())}`
  throw new ToolFailed(`the ${operation} command answered what does not fit${where}`)
}

function parseJson(operation: string, output: string): unknown {
  try {
    return JSON.parse(output)
  } catch (cause) {
    const what = output.trim() === '' ? 'nothing' : 'what is no JSON'
    throw new ToolFailed(`the ${operation} command answered ${what}`, { cause })
  }
}
