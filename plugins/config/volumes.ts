import { resolve } from 'node:path'
import { type Static, Type } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import { findDuplicateKey } from '../../lib/duplicate-key.ts'
import { ConfigError, explainRule } from './error.ts'
import type { Variable } from './setting.ts'
import { maxSeconds } from './variables.ts'

const ajv = new Ajv({ useDefaults: true, validateSchema: false })

const handOverHeaders = ['X-Accel-Redirect', 'X-Sendfile'] as const

const HandOverShape = Type.Object(
  {
    header: Type.Unsafe<(typeof handOverHeaders)[number]>({ type: 'string', enum: handOverHeaders }),
    prefix: Type.String({ pattern: '^(/[A-Za-z0-9._~-]+)*$', default: '', description: 'what stands before the path' }),
  },
  { additionalProperties: false },
)

/** How to tell a front server, which reaches the files of a volume itself, to send one. */
export type HandOver = Static<typeof HandOverShape>

const VolumesShape = Type.Record(
  Type.String(),
  Type.Object(
    {
      backend: Type.String(),
      handOver: Type.Optional(HandOverShape),
      redirect: Type.Optional(Type.Boolean()),
      timeoutSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: maxSeconds })),
      maxCalls: Type.Optional(Type.Integer({ minimum: 1 })),
      maxWaitingCalls: Type.Optional(Type.Integer({ minimum: 0 })),
    },
    { additionalProperties: true },
  ),
  { minProperties: 1, propertyNames: { pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' } },
)

/** A volume's backend type, what the service does with it, and the options of that backend. */
export type VolumeConfig = Static<typeof VolumesShape>[string] & Record<string, unknown>

export function parseVolumes({ name, text, file }: Variable, dataDir: string): Record<string, VolumeConfig> {
  if (text === undefined) return { default: { backend: 'posix', root: resolve(dataDir, 'volumes/default') } }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new ConfigError(`${name} must be JSON`, { cause: error, file })
  }
  const twice = findDuplicateKey(text)
  if (twice !== undefined) throw new ConfigError(`${name} must have each key once, and has ${twice} twice`, { file })
  const validate = ajv.compile<Record<string, VolumeConfig>>(VolumesShape)
  if (!validate(parsed)) throw new ConfigError(explainRule(name, validate.errors?.[0]), { file })
  return parsed
}
