import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Static, Type } from '@sinclair/typebox'
import { Ajv } from 'ajv'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
  }
}

const Seconds = (value: number, description: string) =>
  Type.Integer({ minimum: 1, maximum: 2 ** 31 / 1000 - 1, default: value, description })

/** Every variable of the environment, its type, rule and default. Several values are separated by commas. */
export const Environment = Type.Object({
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ minimum: 0, maximum: 65535, default: 6021 }),
  MANAGER_HOST: Type.Optional(Type.String()),
  MANAGER_PORT: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  PUBLIC_URL: Type.Optional(Type.String({ pattern: '^https?://[^?#]+$' })),
  DATA_DIR: Type.String({ default: './data' }),
  VOLUMES: Type.Optional(Type.String()),
  VOLUMES_FILE: Type.Optional(Type.String()),
  MANAGER_TOKENS: Type.Optional(Type.String({ minLength: 16 })),
  SIGNING_KEYS: Type.Optional(Type.String({ minLength: 32 })),
  CORS_ORIGINS: Type.String({ default: '*' }),
  LOG_LEVEL: Type.Union(
    ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map((level) => Type.Literal(level)),
    { default: 'info' },
  ),
  UPLOAD_MAX_BYTES: Type.Optional(Type.Integer({ minimum: 1, description: 'per file; unset: no limit' })),
  UPLOAD_CLEANUP_INTERVAL_SECONDS: Seconds(600, 'between two removals of what dead uploads left behind'),
  IDLE_TIMEOUT_SECONDS: Seconds(120, 'a connection on which no byte moves for so long is closed'),
  HEADERS_TIMEOUT_SECONDS: Seconds(30, 'a request whose headers take longer is answered 408'),
  SHUTDOWN_TIMEOUT_SECONDS: Seconds(30, 'how long running transfers may go on after SIGTERM'),
})

const VolumesShape = Type.Record(
  Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' }),
  Type.Object({ backend: Type.String() }, { additionalProperties: true }),
  { minProperties: 1, additionalProperties: false },
)

/** A volume's backend type and, beside it, the options of that backend. */
export type VolumeConfig = Static<typeof VolumesShape>[string] & Record<string, unknown>

export interface Config {
  host: string
  port: number
  /** Set when the manager API listens on an address of its own. */
  managerListener: { host: string; port: number } | undefined
  publicUrl: string | undefined
  dataDir: string
  volumes: Record<string, VolumeConfig>
  /** Undefined: one is generated in the data directory. */
  managerTokens: string[] | undefined
  /** The first one signs, all verify. Undefined: one is generated in the data directory. */
  signingKeys: string[] | undefined
  /** `*`, or the origins whose pages may use signed URLs. */
  corsOrigins: '*' | string[]
  logLevel: string
  uploadMaxBytes: number
  uploadCleanupIntervalSeconds: number
  idleTimeoutSeconds: number
  headersTimeoutSeconds: number
  shutdownTimeoutSeconds: number
}

/** A value of the environment does not fit; the message names the variable and the rule. */
export class ConfigError extends Error {}

// The environment has only strings; what is inside a JSON value has its own types.
const ajv = new Ajv({ useDefaults: true, coerceTypes: true })
const strictAjv = new Ajv()

/**
 * Reads the configuration from environment variables. An empty value counts as unset; `NAME_FILE` gives a secret's
 * value by the file that holds it.
 * @throws {ConfigError}
 */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const values = withSecretFiles(env, ['MANAGER_TOKENS', 'SIGNING_KEYS'])
  const validate = ajv.compile<Static<typeof Environment>>(Environment)
  if (!validate(values)) {
    const [error] = validate.errors ?? []
    throw new ConfigError(`${error?.instancePath.slice(1)} ${error?.message}`)
  }
  const dataDir = resolve(values.DATA_DIR)
  return {
    host: values.HOST,
    port: values.PORT,
    managerListener: managerListener(values),
    publicUrl: values.PUBLIC_URL?.replace(/\/$/, ''),
    dataDir,
    volumes: volumes(values, dataDir),
    managerTokens: list('MANAGER_TOKENS', values.MANAGER_TOKENS, 16),
    signingKeys: list('SIGNING_KEYS', values.SIGNING_KEYS, 32),
    corsOrigins: values.CORS_ORIGINS === '*' ? '*' : values.CORS_ORIGINS.split(',').map((origin) => origin.trim()),
    logLevel: values.LOG_LEVEL,
    uploadMaxBytes: values.UPLOAD_MAX_BYTES ?? Number.MAX_SAFE_INTEGER,
    uploadCleanupIntervalSeconds: values.UPLOAD_CLEANUP_INTERVAL_SECONDS,
    idleTimeoutSeconds: values.IDLE_TIMEOUT_SECONDS,
    headersTimeoutSeconds: values.HEADERS_TIMEOUT_SECONDS,
    shutdownTimeoutSeconds: values.SHUTDOWN_TIMEOUT_SECONDS,
  }
}

function withSecretFiles(env: NodeJS.ProcessEnv, secrets: string[]): Record<string, unknown> {
  const values: Record<string, unknown> = {}
  for (const name of Object.keys(Environment.properties)) {
    if (env[name]) values[name] = env[name]
  }
  for (const name of secrets) {
    const file = env[`${name}_FILE`]
    if (!file) continue
    if (env[name]) throw new ConfigError(`${name} and ${name}_FILE must not both be set`)
    values[name] = readText(`${name}_FILE`, file).trim()
  }
  return values
}

function readText(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new ConfigError(`${name} names a file that cannot be read: ${file}`, { cause: error })
  }
}

function list(name: string, value: string | undefined, minLength: number): string[] | undefined {
  const items = value?.split(',').map((item) => item.trim())
  if (items?.some((item) => item.length < minLength)) {
    throw new ConfigError(`${name} must have at least ${minLength} characters in each of its values`)
  }
  return items
}

function managerListener(values: Static<typeof Environment>): Config['managerListener'] {
  if (values.MANAGER_PORT === undefined) {
    if (values.MANAGER_HOST !== undefined) throw new ConfigError('MANAGER_HOST must be set together with MANAGER_PORT')
    return undefined
  }
  return { host: values.MANAGER_HOST ?? values.HOST, port: values.MANAGER_PORT }
}

function volumes(values: Static<typeof Environment>, dataDir: string): Config['volumes'] {
  if (values.VOLUMES !== undefined && values.VOLUMES_FILE !== undefined) {
    throw new ConfigError('VOLUMES and VOLUMES_FILE must not both be set')
  }
  const name = values.VOLUMES_FILE === undefined ? 'VOLUMES' : 'VOLUMES_FILE'
  const text = values.VOLUMES_FILE === undefined ? values.VOLUMES : readText(name, values.VOLUMES_FILE)
  if (text === undefined) return { default: { backend: 'posix', root: resolve(dataDir, 'volumes/default') } }

  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new ConfigError(`${name} must be JSON`, { cause: error })
  }
  const validate = strictAjv.compile<Config['volumes']>(VolumesShape)
  if (!validate(parsed)) {
    const [error] = validate.errors ?? []
    throw new ConfigError(`${name}${error?.instancePath} ${error?.message}, with names such as "default"`)
  }
  return parsed
}

export default fp(
  async (app: FastifyInstance, { config }: { config: Config }) => {
    app.decorate('config', config)
  },
  { name: 'config' },
)
