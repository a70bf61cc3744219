import { access, constants } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import { Ajv } from 'ajv'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { makeDirectory } from '../backends/make-directory.ts'
import { type Listener, managerListenerOf, parseCorsOrigins, parseProxies, parseUrl } from './config/addresses.ts'
import { type BackendAi, backendAiOf } from './config/backend-ai.ts'
import { ConfigError, explainRule, reasonOf } from './config/error.ts'
import { eventSettingsOf } from './config/events.ts'
import { parseSecrets, readVariable, type Setting, settingOf } from './config/setting.ts'
import { type ManagerToken, parseManagerTokens } from './config/tokens.ts'
import { Environment, type Values } from './config/variables.ts'
import { parseVolumes, type VolumeConfig } from './config/volumes.ts'

export { ConfigError, explainRule, inFile, reasonOf } from './config/error.ts'
export type { HandOver } from './config/volumes.ts'
export type { BackendAi, Listener, ManagerToken, Setting, VolumeConfig }

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
  }
}

/** More than any machine has use for. */
const mostWorkers = 1024

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
  const validate = ajv.compile<Values>(Environment)
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

function auditLogFileOf({ AUDIT, AUDIT_LOG_FILE: file }: Values): string | undefined {
  if (file !== undefined && AUDIT === 'off') throw new ConfigError('AUDIT_LOG_FILE must not be set when AUDIT is off')
  return file
}

function parseWorkers(text: string): number {
  if (text === 'auto') return availableParallelism()
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < 1 || count > mostWorkers) {
    throw new ConfigError(`WORKERS must be auto, or a whole number from 1 to ${mostWorkers}`)
  }
  return count
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
