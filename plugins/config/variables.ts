import { type Static, Type } from '@sinclair/typebox'

/** Timers take no more. */
export const maxSeconds = Math.floor(2 ** 31 / 1000)
/** No timer waits for so long. */
const tenYearsSeconds = 10 * 366 * 86_400
const Seconds = (value: number, description: string) =>
  Type.Integer({ minimum: 1, maximum: maxSeconds, default: value, description })

const levels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/** The variables, their types, rules and defaults, except those that can be given as a file too; see `readVariable`. */
export const Environment = Type.Object({
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

export type Values = Static<typeof Environment>
