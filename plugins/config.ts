import { access, constants } from 'node:fs/promises'
import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import { type Static, Type } from '@sinclair/typebox'
import { Ajv, type ErrorObject } from 'ajv'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { makeDirectory } from '../backends/make-directory.ts'
import { findDuplicateKey } from '../lib/duplicate-key.ts'
import { readSmallFile } from '../lib/small-file.ts'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
  }
}

const leastTokenLength = 16

/** Timers take no more. */
const maxSeconds = Math.floor(2 ** 31 / 1000)
/** No timer waits for so long. */
const tenYearsSeconds = 10 * 366 * 86_400
/** More than any machine has use for. */
const mostWorkers = 1024

const Seconds = (value: number, description: string) =>
  Type.Integer({ minimum: 1, maximum: maxSeconds, default: value, description })

const levels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/** The variables, their types, rules and defaults, except those that can be given as a file too; see `readVariable`. */
const Environment = Type.Object({
  HOST: Type.String({ default: '127.0.0.1' }),
  PORT: Type.Integer({ minimum: 0, maximum: 65535, default: 6021 }),
  MANAGER_HOST: Type.Optional(Type.String()),
  MANAGER_PORT: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  PUBLIC_URL: Type.Optional(Type.String()),
  DATA_DIR: Type.String({ default: './data' }),
  DATABASE_POOL_SIZE: Type.Integer({ minimum: 2, maximum: 1000, default: 10 }),
  DATABASE_CONNECT_TIMEOUT_SECONDS: Seconds(
    5,
    'that a connection to the database may take, or the wait for a free one',
  ),
  DATABASE_STATEMENT_TIMEOUT_SECONDS: Seconds(30, 'that a statement may take'),
  WORKERS: Type.String({ default: '1' }),
  BACKEND_PLUGINS: Type.String({ default: '' }),
  CORS_ORIGINS: Type.String({ default: '*' }),
  LOG_LEVEL: Type.String({ enum: levels, default: 'info' }),
  AUDIT: Type.String({ enum: ['on', 'off'], default: 'on' }),
  AUDIT_RETENTION_DAYS: Type.Integer({
    minimum: 1,
    maximum: 36_600,
    default: 90,
    description: 'how long it is known who did what',
  }),
  AUDIT_LOG_FILE: Type.Optional(Type.String()),
  METRICS: Type.String({ enum: ['on', 'off'], default: 'on' }),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(Type.String()),
  OTEL_EXPORTER_OTLP_PROTOCOL: Type.String({ enum: ['http/protobuf'], default: 'http/protobuf' }),
  UPLOAD_MAX_BYTES: Type.Optional(
    Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, description: 'per file; unset: no limit' }),
  ),
  MAX_TRANSFERS: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'at once in one process; unset: no limit',
    }),
  ),
  MAX_EVENT_LOOP_DELAY_MILLISECONDS: Type.Integer({
    minimum: 0,
    maximum: maxSeconds,
    default: 0,
    description: 'mean of a second, above which requests are turned away; 0: no limit',
  }),
  MAX_HEAP_BYTES: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 }),
  MAX_MEMORY_BYTES: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 }),
  URL_REQUESTS_PER_MINUTE: Type.Optional(Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })),
  ADDRESS_REQUESTS_PER_MINUTE: Type.Optional(Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })),
  TRUSTED_PROXIES: Type.String({ default: '' }),
  QUOTA_SYNC_INTERVAL_SECONDS: Seconds(3600, 'between two comparisons of all counters with what is stored'),
  JOB_RETENTION_SECONDS: Seconds(604_800, 'how long a job that ended can be asked about'),
  LEASE_SECONDS: Seconds(10, 'a process that does not show itself for so long counts as dead'),
  UPLOAD_TTL_SECONDS: Seconds(86_400, 'a resumable upload that does not go on for so long is forgotten'),
  UPLOAD_CLEANUP_INTERVAL_SECONDS: Seconds(600, 'between two removals of what dead uploads left behind'),
  TRASH_RETENTION_SECONDS: Type.Integer({
    minimum: 0,
    maximum: tenYearsSeconds,
    default: 0,
    description: 'how long what was deleted can be restored; 0: not at all',
  }),
  TRASH_COUNTS_TOWARDS_QUOTA: Type.Unsafe<'true' | 'false'>({
    type: 'string',
    enum: ['true', 'false'],
    default: 'true',
    description: 'whether what can be restored still takes room in quotas',
  }),
  EVENTS: Type.Optional(Type.String({ enum: ['on', 'off'] })),
  EVENT_RETENTION_SECONDS: Seconds(604_800, 'how long an event can be asked for, or sent again'),
  WEBHOOK_TIMEOUT_SECONDS: Seconds(15, 'that an endpoint may take to answer'),
  WEBHOOK_RETRY_SECONDS: Seconds(259_200, 'how long the delivery of an event is tried'),
  WEBHOOK_PRIVATE_NETWORKS: Type.String({ default: '' }),
  QUOTA_WARNING_PERCENT: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  IDLE_TIMEOUT_SECONDS: Seconds(120, 'a connection on which no byte moves for so long is closed'),
  HEADERS_TIMEOUT_SECONDS: Seconds(30, 'a request whose headers take longer is answered 408'),
  SHUTDOWN_TIMEOUT_SECONDS: Seconds(30, 'how long running transfers may go on after SIGTERM'),
  BACKEND_AI_MANAGER_HOST: Type.Optional(Type.String()),
  BACKEND_AI_MANAGER_PORT: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  BACKEND_AI_CLIENT_HOST: Type.Optional(Type.String()),
  BACKEND_AI_CLIENT_PORT: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  BACKEND_AI_PREFIX: Type.String({
    pattern: '^(/[A-Za-z0-9._~-]+)+$',
    default: '/backend-ai',
    description: 'below which Backend.AI is spoken where it has no port of its own',
  }),
  BACKEND_AI_TOKEN_SECONDS: Seconds(86_400, 'how long a token of Backend.AI can be used'),
})

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

export interface ManagerToken {
  /** Undefined: the audit trail names it by a part of its digest. */
  name: string | undefined
  token: string
}

export interface Listener {
  host: string
  port: number
}

/** How the wire of Backend.AI is spoken. */
export interface BackendAi {
  /** What its manager sends; all are accepted. */
  managerSecrets: string[]
  /** The first one signs its tokens, all verify. Undefined: the signing keys do. */
  tokenSecrets: string[] | undefined
  tokenSeconds: number
  /** What its paths begin with inside the service, and outside where it has no listener of its own. */
  prefix: string
  /** What it calls the header of the request ID. */
  requestId: { name: string; prefix: string }
  /** Undefined: it keeps no artifacts here. */
  artifacts: Setting | undefined
  managerListener: Listener | undefined
  clientListener: Listener | undefined
}

export interface Config extends Listener {
  /** Set when the manager API listens on an address of its own. */
  managerListener: Listener | undefined
  publicUrl: string | undefined
  /** Processes on the same addresses. */
  workers: number
  dataDir: string
  /** Undefined: SQLite in the data directory. */
  databaseUrl: Setting | undefined
  /** How many connections to the database this process has at most. */
  databasePoolSize: number
  databaseConnectTimeoutSeconds: number
  databaseStatementTimeoutSeconds: number
  volumes: Record<string, VolumeConfig>
  /** Where they come from, for messages. */
  volumesVariable: string
  /** The file that they stand in, if it is one. */
  volumesFile: string | undefined
  /** Modules that register further backends, in the order in which they are loaded. */
  backendPlugins: string[]
  /** Undefined: one is generated in the data directory. */
  managerTokens: ManagerToken[] | undefined
  /** The first one signs, all verify. Undefined: one is generated in the data directory. */
  signingKeys: string[] | undefined
  /** `*`, or the origins whose pages may use signed URLs. */
  corsOrigins: '*' | string[]
  logLevel: string
  /** Whether it is written down who does what. */
  audit: boolean
  auditRetentionDays: number
  /** Where it is written to as JSON lines, too. */
  auditLogFile: string | undefined
  /** Whether the service counts what it does, for `GET /metrics`. */
  metrics: boolean
  /** Where OTLP receives traces, without the path that is theirs; undefined: there are none. */
  traces: string | undefined
  uploadMaxBytes: number
  maxTransfers: number
  /** 0, as of the two below: no limit. */
  maxEventLoopDelayMilliseconds: number
  maxHeapBytes: number
  maxMemoryBytes: number
  /** How often a client may ask, by the signed URL that it opens and by its address. */
  urlRequestsPerMinute: number | undefined
  addressRequestsPerMinute: number | undefined
  /** Addresses and ranges of those whose X-Forwarded-For tells where a request came from. */
  trustedProxies: string[]
  uploadTtlSeconds: number
  uploadCleanupIntervalSeconds: number
  quotaSyncIntervalSeconds: number
  jobRetentionSeconds: number
  leaseSeconds: number
  /** 0: what is deleted is gone. */
  trashRetentionSeconds: number
  trashCountsTowardsQuota: boolean
  /** Whether what happens is written down as events, for the feed and those who are told. */
  events: boolean
  /** Whether nothing but the ends of jobs is. */
  eventsOfJobsOnly: boolean
  eventRetentionSeconds: number
  webhookUrls: Setting | undefined
  /** By which Backend.AI's manager is told. */
  valkeyUrl: Setting | undefined
  webhookSecrets: Setting | undefined
  webhookTimeoutSeconds: number
  webhookRetrySeconds: number
  /** Which private addresses webhooks may be sent to. */
  webhookPrivateNetworks: string
  /** Undefined: nobody is told how full a quota is. */
  quotaWarningPercent: number | undefined
  idleTimeoutSeconds: number
  headersTimeoutSeconds: number
  shutdownTimeoutSeconds: number
  /** Undefined: its wire is not spoken. */
  backendAi: BackendAi | undefined
}

/** A value of the environment does not fit; the message names the variable and the rule. */
export class ConfigError extends Error {
  /** The file that the value stands in. */
  readonly file: string | undefined

  constructor(message: string, { cause, file }: { cause?: unknown; file?: string | undefined } = {}) {
    super(message, { cause })
    this.file = file
  }
}

/** Names the file that the value stands in, where what `work` finds wrong with it does not name one itself. */
export async function inFile<T>(file: string | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof ConfigError) || file === undefined || error.file !== undefined) throw error
    throw new ConfigError(error.message, { cause: error.cause, file })
  }
}

/** Why, for the end of a sentence: the first line of whatever was thrown. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : typeof error === 'string' ? error : ''
  return text.trim().split('\n')[0] || 'it does not say why'
}

const ajv = new Ajv({ useDefaults: true, validateSchema: false })

/**
 * Reads the configuration from environment variables. An empty value counts as unset.
 * @throws {ConfigError}
 */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const values: Record<string, unknown> = {}
  for (const [name, { type }] of Object.entries(Environment.properties)) {
    const text = env[name]?.trim()
    if (text) values[name] = type === 'integer' && /^-?\d+$/.test(text) ? Number(text) : text
  }
  const validate = ajv.compile<Static<typeof Environment>>(Environment)
  if (!validate(values)) throw new ConfigError(explainRule('', validate.errors?.[0]))

  const dataDir = resolve(values.DATA_DIR)
  const volumes = readVariable(env, 'VOLUMES')
  return {
    host: values.HOST,
    port: values.PORT,
    managerListener: managerListenerOf(values),
    publicUrl: parseUrl('PUBLIC_URL', values.PUBLIC_URL),
    workers: parseWorkers(values.WORKERS),
    dataDir,
    databaseUrl: settingOf(readVariable(env, 'DATABASE_URL')),
    databasePoolSize: values.DATABASE_POOL_SIZE,
    databaseConnectTimeoutSeconds: values.DATABASE_CONNECT_TIMEOUT_SECONDS,
    databaseStatementTimeoutSeconds: values.DATABASE_STATEMENT_TIMEOUT_SECONDS,
    volumes: parseVolumes(volumes, dataDir),
    volumesVariable: volumes.name,
    volumesFile: volumes.file,
    backendPlugins: values.BACKEND_PLUGINS.split(',')
      .map((module) => module.trim())
      .filter(Boolean),
    managerTokens: parseManagerTokens(readVariable(env, 'MANAGER_TOKENS')),
    signingKeys: parseSecrets(readVariable(env, 'SIGNING_KEYS'), 32),
    corsOrigins: parseCorsOrigins(values.CORS_ORIGINS),
    logLevel: values.LOG_LEVEL,
    audit: values.AUDIT === 'on',
    auditRetentionDays: values.AUDIT_RETENTION_DAYS,
    auditLogFile: auditLogFileOf(values),
    metrics: values.METRICS === 'on',
    traces: parseUrl('OTEL_EXPORTER_OTLP_ENDPOINT', values.OTEL_EXPORTER_OTLP_ENDPOINT),
    uploadMaxBytes: values.UPLOAD_MAX_BYTES ?? Number.MAX_SAFE_INTEGER,
    maxTransfers: values.MAX_TRANSFERS ?? Number.POSITIVE_INFINITY,
    maxEventLoopDelayMilliseconds: values.MAX_EVENT_LOOP_DELAY_MILLISECONDS,
    maxHeapBytes: values.MAX_HEAP_BYTES,
    maxMemoryBytes: values.MAX_MEMORY_BYTES,
    urlRequestsPerMinute: values.URL_REQUESTS_PER_MINUTE,
    addressRequestsPerMinute: values.ADDRESS_REQUESTS_PER_MINUTE,
    trustedProxies: parseProxies(values.TRUSTED_PROXIES),
    uploadTtlSeconds: values.UPLOAD_TTL_SECONDS,
    uploadCleanupIntervalSeconds: values.UPLOAD_CLEANUP_INTERVAL_SECONDS,
    quotaSyncIntervalSeconds: values.QUOTA_SYNC_INTERVAL_SECONDS,
    jobRetentionSeconds: values.JOB_RETENTION_SECONDS,
    leaseSeconds: values.LEASE_SECONDS,
    trashRetentionSeconds: values.TRASH_RETENTION_SECONDS,
    trashCountsTowardsQuota: values.TRASH_COUNTS_TOWARDS_QUOTA === 'true',
    ...eventSettingsOf(env, values),
    idleTimeoutSeconds: values.IDLE_TIMEOUT_SECONDS,
    headersTimeoutSeconds: values.HEADERS_TIMEOUT_SECONDS,
    shutdownTimeoutSeconds: values.SHUTDOWN_TIMEOUT_SECONDS,
    backendAi: backendAiOf(values, env),
  }
}

/** Says in words which rule of the schema is broken. */
export function explainRule(name: string, error: ErrorObject | undefined): string {
  const { instancePath = '', message = 'is not valid', params = {}, propertyName } = error ?? {}
  const { allowedValues = [], additionalProperty = '' } = params
  const place = propertyName === undefined ? instancePath : `${instancePath}/${propertyName}`
  const words = [(name + place).replace(/^\//, ''), message, additionalProperty, allowedValues.join(', ')]
  return words.filter(Boolean).join(' ')
}

/** What a variable says, and which one was set: `NAME` or `NAME_FILE`. */
export interface Setting {
  name: string
  /** Where `NAME_FILE` points. */
  file?: string
  text: string
}

type Variable = Omit<Setting, 'text'> & { text: string | undefined }

function settingOf({ text, ...setting }: Variable): Setting | undefined {
  return text === undefined ? undefined : { ...setting, text }
}

/** The value of a variable that may be set to a file, as `NAME_FILE`, instead. */
function readVariable(env: NodeJS.ProcessEnv, name: string): Variable {
  const file = env[`${name}_FILE`]
  if (!file) return { name, text: env[name] || undefined }
  if (env[name]) throw new ConfigError(`${name} and ${name}_FILE must not both be set`)
  try {
    return { name: `${name}_FILE`, file, text: readSmallFile(file) }
  } catch (cause) {
    const rule = `${name}_FILE must name a file that can be read, not ${file}: ${reasonOf(cause)}`
    throw new ConfigError(rule, { cause, file })
  }
}

function parseSecrets({ name, text, file }: Variable, minLength: number): string[] | undefined {
  const items = text?.split(',').map((item) => item.trim())
  if (items?.some((item) => item.length < minLength)) {
    throw new ConfigError(`${name} must have at least ${minLength} characters in each of its values`, { file })
  }
  return items
}

function parseManagerTokens(setting: Variable): ManagerToken[] | undefined {
  const values = parseSecrets(setting, leastTokenLength)
  // Any other character cannot be sent in an Authorization header, or splits it.
  if (values?.every((value) => /^[!-~]+$/.test(value)) === false) {
    const rule = 'must have visible ASCII characters only, and commas between its values'
    throw new ConfigError(`${setting.name} ${rule}`, setting)
  }
  const tokens = values?.map(toManagerToken)
  const short = tokens?.find(({ token }) => token.length < leastTokenLength)
  if (short !== undefined) {
    const rule = `must have at least ${leastTokenLength} characters in each of its tokens; that of ${short.name} has fewer`
    throw new ConfigError(`${setting.name} ${rule}`, setting)
  }
  return tokens
}

/** `name=token`. What a token in base64 ends with does not make a name of the rest. */
function toManagerToken(value: string): ManagerToken {
  const [, name, token] = /^([A-Za-z0-9._-]{1,64})=([^=].*)$/.exec(value) ?? []
  return token === undefined ? { name: undefined, token: value } : { name, token }
}

function auditLogFileOf({ AUDIT, AUDIT_LOG_FILE: file }: Static<typeof Environment>): string | undefined {
  if (file !== undefined && AUDIT === 'off') throw new ConfigError('AUDIT_LOG_FILE must not be set when AUDIT is off')
  return file
}

function managerListenerOf(values: Static<typeof Environment>): Config['managerListener'] {
  if (values.MANAGER_PORT === undefined) {
    if (values.MANAGER_HOST !== undefined) throw new ConfigError('MANAGER_HOST must be set together with MANAGER_PORT')
    return undefined
  }
  const { HOST, PORT, MANAGER_HOST: host = HOST, MANAGER_PORT: port } = values
  requireApart('MANAGER_PORT', { host, port }, 'PORT', { host: HOST, port: PORT })
  return { host, port }
}

function eventSettingsOf(env: NodeJS.ProcessEnv, values: Static<typeof Environment>) {
  const webhookUrls = settingOf(readVariable(env, 'WEBHOOK_URLS'))
  const valkeyUrl = settingOf(readVariable(env, 'VALKEY_URL'))
  const told = webhookUrls ?? valkeyUrl
  const isOn = values.EVENTS === undefined ? told !== undefined : values.EVENTS === 'on'
  if (!isOn && told !== undefined) throw new ConfigError(`EVENTS must not be off where ${told.name} is set`)
  if (values.WEBHOOK_RETRY_SECONDS > values.EVENT_RETENTION_SECONDS) {
    throw new ConfigError('WEBHOOK_RETRY_SECONDS must not be more than EVENT_RETENTION_SECONDS')
  }
  return {
    events: isOn,
    // Nothing else is of use to Backend.AI's manager.
    eventsOfJobsOnly: isOn && values.EVENTS === undefined && webhookUrls === undefined,
    eventRetentionSeconds: values.EVENT_RETENTION_SECONDS,
    webhookUrls,
    valkeyUrl,
    webhookSecrets: settingOf(readVariable(env, 'WEBHOOK_SECRETS')),
    webhookTimeoutSeconds: values.WEBHOOK_TIMEOUT_SECONDS,
    webhookRetrySeconds: values.WEBHOOK_RETRY_SECONDS,
    webhookPrivateNetworks: values.WEBHOOK_PRIVATE_NETWORKS,
    quotaWarningPercent: values.QUOTA_WARNING_PERCENT,
  }
}

function requireApart(name: string, one: Listener, otherName: string, other: Listener): void {
  // An address such as 0.0.0.0 is that of every interface.
  const overlap = one.host === other.host || [one, other].some(({ host }) => /^[0.:]+$/.test(host))
  if (one.port === other.port && one.port !== 0 && overlap) {
    throw new ConfigError(`${name} must differ from ${otherName}, unless their hosts are different addresses`)
  }
}

/** They say nothing where its wire is not spoken. */
const backendAiOnly = [
  'BACKEND_AI_TOKEN_SECRET',
  'BACKEND_AI_TOKEN_SECRET_FILE',
  'BACKEND_AI_ARTIFACTS',
  'BACKEND_AI_ARTIFACTS_FILE',
  'BACKEND_AI_MANAGER_HOST',
  'BACKEND_AI_MANAGER_PORT',
  'BACKEND_AI_CLIENT_HOST',
  'BACKEND_AI_CLIENT_PORT',
]

function backendAiOf(values: Static<typeof Environment>, env: NodeJS.ProcessEnv): BackendAi | undefined {
  const managerSecrets = parseSecrets(readVariable(env, 'BACKEND_AI_MANAGER_SECRET'), 16)
  const tokenSecrets = parseSecrets(readVariable(env, 'BACKEND_AI_TOKEN_SECRET'), 16)
  if (managerSecrets === undefined) {
    const idle = backendAiOnly.find((name) => env[name])
    if (idle === undefined) return undefined
    throw new ConfigError(`${idle} must be set together with BACKEND_AI_MANAGER_SECRET`)
  }
  const listeners = [
    { name: 'PORT', host: values.HOST, port: values.PORT },
    { name: 'MANAGER_PORT', host: values.MANAGER_HOST ?? values.HOST, port: values.MANAGER_PORT },
  ]
  const listenerOf = (face: 'MANAGER' | 'CLIENT'): Listener | undefined => {
    const name = `BACKEND_AI_${face}_PORT`
    const { [`BACKEND_AI_${face}_HOST` as const]: given, [`BACKEND_AI_${face}_PORT` as const]: port } = values
    if (port === undefined) {
      if (given !== undefined) throw new ConfigError(`BACKEND_AI_${face}_HOST must be set together with ${name}`)
      return undefined
    }
    const host = given ?? values.HOST
    for (const { name: otherName, host: other, port: taken } of listeners) {
      if (taken !== undefined) requireApart(name, { host, port }, otherName, { host: other, port: taken })
    }
    listeners.push({ name, host, port })
    return { host, port }
  }
  const prefix = values.BACKEND_AI_PREFIX
  return {
    managerSecrets,
    tokenSecrets,
    tokenSeconds: values.BACKEND_AI_TOKEN_SECONDS,
    prefix,
    requestId: { name: 'x-backendai-requestid', prefix },
    artifacts: settingOf(readVariable(env, 'BACKEND_AI_ARTIFACTS')),
    managerListener: listenerOf('MANAGER'),
    clientListener: listenerOf('CLIENT'),
  }
}

function parseWorkers(text: string): number {
  if (text === 'auto') return availableParallelism()
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < 1 || count > mostWorkers) {
    throw new ConfigError(`WORKERS must be auto, or a whole number from 1 to ${mostWorkers}`)
  }
  return count
}

function parseUrl(name: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol) || /[?#@]/.test(text)) {
    throw new ConfigError(`${name} must be an http or https URL without user, query and fragment`)
  }
  return url.href.replace(/\/+$/, '')
}

function parseCorsOrigins(text: string): Config['corsOrigins'] {
  if (text === '*') return '*'
  const origins = text.split(',').map((origin) => origin.trim())
  if (origins.some((origin) => URL.parse(origin)?.origin !== origin)) {
    throw new ConfigError('CORS_ORIGINS must be * or origins, such as https://app.example, without path and slash')
  }
  return origins
}

/** A range is an address and the length of its prefix; one of all addresses would let anybody say any address. */
function parseProxies(text: string): string[] {
  const proxies = text
    .split(',')
    .map((proxy) => proxy.trim())
    .filter(Boolean)
  for (const proxy of proxies) {
    const [address = '', length = '1', ...rest] = proxy.split('/')
    const longest = { 0: 0, 4: 32, 6: 128 }[isIP(address)] ?? 0
    if (rest.length > 0 || !/^\d{1,3}$/.test(length) || Number(length) < 1 || Number(length) > longest) {
      throw new ConfigError(`TRUSTED_PROXIES must have addresses or ranges, such as 10.0.0.0/8, and not ${proxy}`)
    }
  }
  return proxies
}

function parseVolumes({ name, text, file }: Variable, dataDir: string): Config['volumes'] {
  if (text === undefined) return { default: { backend: 'posix', root: resolve(dataDir, 'volumes/default') } }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new ConfigError(`${name} must be JSON`, { cause: error, file })
  }
  const twice = findDuplicateKey(text)
  if (twice !== undefined) throw new ConfigError(`${name} must have each key once, and has ${twice} twice`, { file })
  const validate = ajv.compile<Config['volumes']>(VolumesShape)
  if (!validate(parsed)) throw new ConfigError(explainRule(name, validate.errors?.[0]), { file })
  return parsed
}

export default fp(
  async (app: FastifyInstance, { config }: { config: Config }) => {
    try {
      await makeDirectory(config.dataDir)
      await access(config.dataDir, constants.R_OK | constants.W_OK | constants.X_OK)
    } catch (cause) {
      const rule = `DATA_DIR must be a directory that the service can write to, not ${config.dataDir}`
      throw new ConfigError(`${rule}: ${reasonOf(cause)}`, { cause, file: config.dataDir })
    }
    app.decorate('config', config)
  },
  { name: 'config' },
)
