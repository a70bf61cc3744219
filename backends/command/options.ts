import { type Static, Type } from '@sinclair/typebox'

const Command = Type.Array(Type.String({ minLength: 1, pattern: '^[^\\0]*$' }), {
  minItems: 1,
  description: 'the absolute path of a program, and arguments of it',
})

/** What programs do for a volume; what is absent, the volume cannot do, or does as any filesystem. */
export const Commands = Type.Object(
  {
    quota: Type.Optional(Command),
    usage: Type.Optional(Command),
    clone: Type.Optional(Command),
    timeoutSeconds: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 3600, default: 60, description: 'for quota and usage' }),
    ),
  },
  { additionalProperties: false },
)
export type Commands = Static<typeof Commands>

export type Operation = Exclude<keyof Commands, 'timeoutSeconds'>
export const operations = ['quota', 'usage', 'clone'] as const satisfies Operation[]
