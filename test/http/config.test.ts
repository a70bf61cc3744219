import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import t from 'tap'
import { loadConfig } from '../../plugins/config.ts'
import { changeDatabase, onlySqlite } from '../database.ts'
import { compileCache, signingKey, startServer, temporaryDirectory } from '../server.ts'

const serverFile = fileURLToPath(new URL('../../server.ts', import.meta.url))
const refusalsFile = fileURLToPath(new URL('../refusals.ts', import.meta.url))
const example = parseEnv(await readFile(new URL('../../.env.example', import.meta.url), 'utf8'))

/** Starts the service, which has to end by itself. */
function start(dataDir: string, env: Record<string, string>): Promise<{ code: unknown; stderr: string }> {
  const common = { PATH: process.env.PATH, NODE_COMPILE_CACHE: compileCache, PORT: '0', DATA_DIR: dataDir }
  const options = { env: { ...common, ...env }, timeout: 20_000 }
  return new Promise((resolve) => {
    execFile(process.execPath, [serverFile], options, (error, _stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code ?? error.signal), stderr })
    })
  })
}

/** What each environment is refused with, all of them tried in one process. */
function refusalsOf(environments: Record<string, string>[]): Promise<(string | null)[]> {
  const options = { env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: compileCache }, timeout: 120_000 }
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, [refusalsFile], options, (error, stdout) => {
      if (error) reject(error)
      else resolve(JSON.parse(stdout))
    })
    child.stdin?.end(JSON.stringify(environments))
  })
}

type Case = [env: Record<string, string>, sentence: RegExp]

const volume = (options: object, name = 'v') => JSON.stringify({ [name]: { backend: 'posix', ...options } })

t.test('a value that does not fit stops the start and names the variable and the rule', async (t) => {
  const directory = await temporaryDirectory(t)
  const file = async (name: string, content: string) => {
    await writeFile(join(directory, name), content)
    return join(directory, name)
  }
  const missing = join(directory, 'missing')
  const plain = await file('plain', 'not a secret')
  const root = join(directory, 'root')
  const taken = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => taken.once('listening', resolve))
  t.teardown(() => taken.close())
  const address = taken.address()
  const port = typeof address === 'object' ? String(address?.port) : ''

  const cases: Case[] = [
    [{ PORT: port }, /^HOST and PORT must be an address to listen on: .*EADDRINUSE/],
    [{ HOST: '192.0.2.1' }, /^HOST and PORT must be an address to listen on: .*EADDRNOTAVAIL/],
    [{ MANAGER_HOST: '127.0.0.1' }, /^MANAGER_HOST must be set together with MANAGER_PORT$/],
    [{ MANAGER_PORT: port }, /^MANAGER_HOST and MANAGER_PORT must be an address to listen on: .*EADDRINUSE/],
    [{ PUBLIC_URL: 'files.example' }, /^PUBLIC_URL must be an http or https URL/],
    [{ DATA_DIR: plain }, /^DATA_DIR must be a directory that the service can write to/],
    [
      { DATABASE_URL: 'postgres://db.example/' },
      /^DATABASE_URL must be postgres:\/\/USER:PASSWORD@HOST:PORT\/DATABASE/,
    ],
    [{ DATABASE_URL_FILE: missing }, /^DATABASE_URL_FILE must name a file that can be read/],
    [{ DATABASE_POOL_SIZE: '1' }, /^DATABASE_POOL_SIZE must be >= 2$/],
    [{ DATABASE_CONNECT_TIMEOUT_SECONDS: '0' }, /^DATABASE_CONNECT_TIMEOUT_SECONDS must be >= 1$/],
    [{ DATABASE_STATEMENT_TIMEOUT_SECONDS: '1m' }, /^DATABASE_STATEMENT_TIMEOUT_SECONDS must be integer$/],
    [{ BACKEND_PLUGINS: 'no-such-package' }, /^BACKEND_PLUGINS has no-such-package, which cannot be found: /],
    [
      { VOLUMES: volume({ backend: 'tape' }) },
      /^VOLUMES\/v\/backend must be one of posix, nfs, btrfs, cephfs, xfs, command, s3, not tape$/,
    ],
    [{ VOLUMES: volume({}) }, /^VOLUMES\/v must have required property 'root'$/],
    [{ VOLUMES: volume({ root, uid: '1000' }) }, /^VOLUMES\/v\/uid must be integer$/],
    [{ VOLUMES: volume({ root, fileMode: 'rw' }) }, /^VOLUMES\/v\/fileMode must match pattern/],
    [{ VOLUMES: volume({ root, colour: 'red' }) }, /^VOLUMES\/v must NOT have additional properties colour$/],
    [{ VOLUMES: volume({ root: 'files' }) }, /^VOLUMES\/v cannot be used: root must be an absolute directory$/],
    [{ VOLUMES: volume({ root: plain }) }, /^VOLUMES\/v cannot be used: EEXIST/],
    [{ VOLUMES: volume({ root, redirect: true }) }, /^VOLUMES\/v\/redirect must be false: posix cannot presign$/],
    [{ VOLUMES: volume({ backend: 's3' }) }, /^VOLUMES\/v must have required property 'bucket'$/],
    [
      { VOLUMES: volume({ backend: 's3', bucket: 'files', accessKeyId: 'x' }) },
      /^VOLUMES\/v cannot be used: accessKeyId and secretAccessKey must be given together$/,
    ],
    [{ VOLUMES_FILE: await file('v', volume({ backend: 'tape' })) }, /^VOLUMES_FILE\/v\/backend must be one of posix/],
    [{ MANAGER_TOKENS: 'too-short' }, /^MANAGER_TOKENS must have at least 16 characters in each/],
    [{ MANAGER_TOKENS_FILE: missing }, /^MANAGER_TOKENS_FILE must name a file that can be read/],
    [{ SIGNING_KEYS: 'x'.repeat(31) }, /^SIGNING_KEYS must have at least 32 characters in each/],
    [{ SIGNING_KEYS_FILE: await file('empty', '') }, /^SIGNING_KEYS_FILE must have at least 32 characters in each/],
    [{ WORKERS: '0' }, /^WORKERS must be auto, or a whole number from 1 to 1024$/],
    [{ CORS_ORIGINS: 'https://app.example/' }, /^CORS_ORIGINS must be \* or origins/],
    [{ LOG_LEVEL: 'loud' }, /^LOG_LEVEL must be .* fatal, error, warn, info, debug, trace, silent$/],
    [{ AUDIT: 'no' }, /^AUDIT must be .* on, off$/],
    [{ AUDIT_RETENTION_DAYS: '0' }, /^AUDIT_RETENTION_DAYS must be >= 1$/],
    [
      { AUDIT_LOG_FILE: '/dev/null/audit' },
      /^AUDIT_LOG_FILE must name a file that can be written to, not \/dev\/null\/audit: /,
    ],
    [{ METRICS: 'yes' }, /^METRICS must be .* on, off$/],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' }, /^OTEL_EXPORTER_OTLP_ENDPOINT must be an http or https URL/],
    [{ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, /^OTEL_EXPORTER_OTLP_PROTOCOL must be .* http\/protobuf$/],
    [{ UPLOAD_MAX_BYTES: '10MB' }, /^UPLOAD_MAX_BYTES must be integer$/],
    [{ MAX_TRANSFERS: '0' }, /^MAX_TRANSFERS must be >= 1$/],
    [{ VALKEY_URL: 'valkey://127.0.0.1/events' }, /^VALKEY_URL must be .* a path is the number of a database$/],
    [{ VOLUMES: volume({ root, layout: 'other' }) }, /^VOLUMES\/v\/layout must be equal to constant$/],
    [{ VALKEY_URL: 'http://127.0.0.1:6379' }, /^VALKEY_URL must be valkey:\/\/HOST:PORT, or with valkeys, redis/],
    [{ VALKEY_URL_FILE: await file('valkey', 'nonsense') }, /^VALKEY_URL_FILE must be valkey:\/\/HOST:PORT/],
    [{ MAX_EVENT_LOOP_DELAY_MILLISECONDS: '0.2' }, /^MAX_EVENT_LOOP_DELAY_MILLISECONDS must be integer$/],
    [{ MAX_HEAP_BYTES: '-1' }, /^MAX_HEAP_BYTES must be >= 0$/],
    [{ MAX_MEMORY_BYTES: '2GB' }, /^MAX_MEMORY_BYTES must be integer$/],
    [{ URL_REQUESTS_PER_MINUTE: '0' }, /^URL_REQUESTS_PER_MINUTE must be >= 1$/],
    [{ ADDRESS_REQUESTS_PER_MINUTE: 'many' }, /^ADDRESS_REQUESTS_PER_MINUTE must be integer$/],
    [{ TRUSTED_PROXIES: '10.0.0.0/33' }, /^TRUSTED_PROXIES must have addresses or ranges, .* and not 10.0.0.0\/33$/],
    [{ TRASH_RETENTION_SECONDS: '-1' }, /^TRASH_RETENTION_SECONDS must be >= 0$/],
    [
      { TRASH_COUNTS_TOWARDS_QUOTA: 'perhaps' },
      /^TRASH_COUNTS_TOWARDS_QUOTA must be equal to one of the allowed values true, false$/,
    ],
    [{ QUOTA_SYNC_INTERVAL_SECONDS: '0' }, /^QUOTA_SYNC_INTERVAL_SECONDS must be >= 1$/],
    [{ JOB_RETENTION_SECONDS: '1.5' }, /^JOB_RETENTION_SECONDS must be integer$/],
    [{ LEASE_SECONDS: '-1' }, /^LEASE_SECONDS must be >= 1$/],
    [{ UPLOAD_TTL_SECONDS: '0' }, /^UPLOAD_TTL_SECONDS must be >= 1$/],
    [{ UPLOAD_CLEANUP_INTERVAL_SECONDS: '1h' }, /^UPLOAD_CLEANUP_INTERVAL_SECONDS must be integer$/],
    [{ EVENTS: 'yes' }, /^EVENTS must be .* on, off$/],
    [{ EVENT_RETENTION_SECONDS: '0' }, /^EVENT_RETENTION_SECONDS must be >= 1$/],
    [{ WEBHOOK_URLS: 'https://x.example' }, /^WEBHOOK_SECRETS must be set where WEBHOOK_URLS is: /],
    [{ WEBHOOK_URLS_FILE: missing }, /^WEBHOOK_URLS_FILE must name a file that can be read/],
    [
      { WEBHOOK_URLS: 'https://x.example', WEBHOOK_SECRETS: 'secret' },
      /^WEBHOOK_SECRETS must have whsec_ and 24 to 64/,
    ],
    [{ WEBHOOK_SECRETS_FILE: missing }, /^WEBHOOK_SECRETS_FILE must name a file that can be read/],
    [{ WEBHOOK_TIMEOUT_SECONDS: '0' }, /^WEBHOOK_TIMEOUT_SECONDS must be >= 1$/],
    [{ WEBHOOK_RETRY_SECONDS: '1h' }, /^WEBHOOK_RETRY_SECONDS must be integer$/],
    [{ WEBHOOK_PRIVATE_NETWORKS: '10.0.0.0/33' }, /^WEBHOOK_PRIVATE_NETWORKS must have addresses or networks/],
    [{ QUOTA_WARNING_PERCENT: '101' }, /^QUOTA_WARNING_PERCENT must be <= 100$/],
    [{ IDLE_TIMEOUT_SECONDS: '0' }, /^IDLE_TIMEOUT_SECONDS must be >= 1$/],
    [{ HEADERS_TIMEOUT_SECONDS: '9999999' }, /^HEADERS_TIMEOUT_SECONDS must be <= 2147483$/],
    [{ SHUTDOWN_TIMEOUT_SECONDS: 'Infinity' }, /^SHUTDOWN_TIMEOUT_SECONDS must be integer$/],
    [{ BACKEND_AI_MANAGER_SECRET: 'too-short' }, /^BACKEND_AI_MANAGER_SECRET must have at least 16 characters in each/],
    [{ BACKEND_AI_MANAGER_SECRET_FILE: missing }, /^BACKEND_AI_MANAGER_SECRET_FILE must name a file that can be read/],
    [
      { BACKEND_AI_TOKEN_SECRET: signingKey },
      /^BACKEND_AI_TOKEN_SECRET must be set together with BACKEND_AI_MANAGER_SE/,
    ],
    [{ BACKEND_AI_TOKEN_SECRET_FILE: missing }, /^BACKEND_AI_TOKEN_SECRET_FILE must name a file that can be read/],
    [{ BACKEND_AI_MANAGER_HOST: '::1' }, /^BACKEND_AI_MANAGER_HOST must be set together with BACKEND_AI_MANAGER_SE/],
    [
      { BACKEND_AI_MANAGER_SECRET: signingKey, BACKEND_AI_PREFIX: '/folders' },
      /^BACKEND_AI_PREFIX must be none of our own paths, as \/folders is$/,
    ],
    [{ BACKEND_AI_MANAGER_PORT: '6022.5' }, /^BACKEND_AI_MANAGER_PORT must be integer$/],
    [
      { BACKEND_AI_MANAGER_SECRET: signingKey, BACKEND_AI_CLIENT_HOST: '::1' },
      /^BACKEND_AI_CLIENT_HOST must be set together with BACKEND_AI_CLIENT_PORT$/,
    ],
    [
      { BACKEND_AI_MANAGER_SECRET: signingKey, BACKEND_AI_MANAGER_PORT: '9', BACKEND_AI_CLIENT_PORT: '9' },
      /^BACKEND_AI_CLIENT_PORT must differ from BACKEND_AI_MANAGER_PORT, unless/,
    ],
    [{ BACKEND_AI_PREFIX: 'backend-ai' }, /^BACKEND_AI_PREFIX must match pattern/],
    [{ BACKEND_AI_ARTIFACTS: '{}' }, /^BACKEND_AI_ARTIFACTS must be set together with BACKEND_AI_MANAGER_SECRET$/],
    [
      { BACKEND_AI_MANAGER_SECRET: signingKey, BACKEND_AI_ARTIFACTS_FILE: missing },
      /^BACKEND_AI_ARTIFACTS_FILE must name a file that can be read/,
    ],
    [
      { BACKEND_AI_MANAGER_SECRET: signingKey, BACKEND_AI_ARTIFACTS: '{ "local": { "volume": "nope" } }' },
      /^BACKEND_AI_ARTIFACTS\/local\/volume must be one of VOLUMES: /,
    ],
    [
      { BACKEND_AI_MANAGER_SECRET: signingKey, BACKEND_AI_ARTIFACTS: '{ "local": { "root": "/srv" } }' },
      /^BACKEND_AI_ARTIFACTS\/local must have required property 'volume'/,
    ],
    [{ BACKEND_AI_TOKEN_SECONDS: '0' }, /^BACKEND_AI_TOKEN_SECONDS must be >= 1$/],
  ]
  const dataDir = (index: number) => join(directory, `data-${index}`)
  const refusals = await refusalsOf(cases.map(([env], index) => ({ PORT: '0', DATA_DIR: dataDir(index), ...env })))
  for (const [index, [env, sentence]] of cases.entries()) t.match(refusals[index], sentence, JSON.stringify(env))

  // How a process ends by that, a few show for all: of a wrong value, of what is tried with one, and of a plugin.
  for (const name of ['WORKERS', 'PORT', 'BACKEND_PLUGINS']) {
    const index = cases.findIndex(([env]) => name in env)
    const [env, sentence] = cases[index]!
    const { code, stderr } = await start(dataDir(index), env)
    t.equal(code, 1, `${name}: exit code`)
    t.match(stderr.trimEnd(), sentence, name)
    t.equal(stderr.split('\n').length, 2, `${name}: one line, not ${stderr}`)
  }
  t.same(new Set(cases.flatMap(([env]) => Object.keys(env))), new Set(Object.keys(example)), 'each variable has a case')
})

t.test('further rules', async (t) => {
  const directory = await temporaryDirectory(t)
  const missing = join(directory, 'missing')
  const plain = join(directory, 'plain')
  await writeFile(plain, 'not a secret')
  const cases: Case[] = [
    [{ PORT: 'http' }, /^PORT must be integer$/],
    [{ AUDIT: 'off', AUDIT_LOG_FILE: plain }, /^AUDIT_LOG_FILE must not be set when AUDIT is off$/],
    [
      { MANAGER_TOKENS: 'control=too-short-one' },
      /^MANAGER_TOKENS .* in each of its tokens; that of control has fewer$/,
    ],
    [{ PORT: '80.5' }, /^PORT must be integer$/],
    [{ PORT: '-1' }, /^PORT must be >= 0$/],
    [{ PORT: '65536' }, /^PORT must be <= 65535$/],
    [{ MANAGER_PORT: '65536' }, /^MANAGER_PORT must be <= 65535$/],
    ...['-1', '1.5', '0x2', '1025', 'many'].map((WORKERS): Case => [{ WORKERS }, /^WORKERS must be auto, or/]),
    [{ EVENTS: 'off', WEBHOOK_URLS: 'https://x.example' }, /^EVENTS must not be off where WEBHOOK_URLS is set$/],
    [{ WEBHOOK_RETRY_SECONDS: '700000' }, /^WEBHOOK_RETRY_SECONDS must not be more than EVENT_RETENTION_SECONDS$/],
    [{ PUBLIC_URL: 'ftp://files.example' }, /^PUBLIC_URL must be an http or https URL/],
    [{ PUBLIC_URL: 'https://files.example/?a=b' }, /^PUBLIC_URL must be .* without user, query and fragment$/],
    [{ VOLUMES: '{' }, /^VOLUMES must be JSON$/],
    [{ VOLUMES: '[]' }, /^VOLUMES must be object$/],
    [{ VOLUMES: '{}' }, /^VOLUMES must NOT have fewer than 1 properties$/],
    [{ VOLUMES: '{"v": {}}' }, /^VOLUMES\/v must have required property 'backend'$/],
    [{ VOLUMES: volume({ root: '/srv' }, 'Not A Name') }, /^VOLUMES\/Not A Name must match pattern/],
    [{ VOLUMES: volume({ handOver: {} }) }, /^VOLUMES\/v\/handOver must have required property 'header'$/],
    [
      { VOLUMES: volume({ handOver: { header: 'X-Send' } }) },
      /^VOLUMES\/v\/handOver\/header must be .* X-Accel-Redirect, X-Sendfile$/,
    ],
    [
      { VOLUMES: volume({ handOver: { header: 'X-Sendfile', prefix: 'a' } }) },
      /^VOLUMES\/v\/handOver\/prefix must match pattern/,
    ],
    [{ VOLUMES_FILE: missing }, /^VOLUMES_FILE must name a file that can be read/],
    [{ VOLUMES_FILE: plain }, /^VOLUMES_FILE must be JSON$/],
    [{ VOLUMES: volume({ root: '/srv' }), VOLUMES_FILE: plain }, /^VOLUMES and VOLUMES_FILE must not both be set$/],
    [{ MANAGER_TOKENS: 'sixteen-or-more-characters,' }, /^MANAGER_TOKENS must have at least 16 characters in each/],
    [{ MANAGER_TOKENS: 'a token that has spaces' }, /^MANAGER_TOKENS must have visible ASCII characters only/],
    [{ MANAGER_TOKENS_FILE: plain }, /^MANAGER_TOKENS_FILE must have at least 16 characters in each/],
    [
      { MANAGER_TOKENS: 'x'.repeat(16), MANAGER_TOKENS_FILE: plain },
      /^MANAGER_TOKENS and .*_FILE must not both be set$/,
    ],
    [
      { SIGNING_KEYS: signingKey, SIGNING_KEYS_FILE: plain },
      /^SIGNING_KEYS and SIGNING_KEYS_FILE must not both be set$/,
    ],
    [{ CORS_ORIGINS: 'https://app.example, *' }, /^CORS_ORIGINS must be \* or origins/],
    [{ UPLOAD_MAX_BYTES: '0' }, /^UPLOAD_MAX_BYTES must be >= 1$/],
  ]
  for (const [env, message] of cases) t.throws(() => loadConfig(env), { name: 'Error', message }, JSON.stringify(env))
})

t.test('.env.example has exactly the variables that are read, with their defaults', async (t) => {
  const read = new Set<string>()
  const recorder = new Proxy<NodeJS.ProcessEnv>(
    {},
    {
      get: (_target, name) => {
        read.add(String(name))
        return undefined
      },
    },
  )
  const defaults = loadConfig(recorder)
  t.same([...read].sort(), Object.keys(example).sort())
  t.same(loadConfig(example), defaults)
})

t.test('secrets and volumes may come from files', async (t) => {
  const directory = await temporaryDirectory(t)
  const token = 'a-manager-token-from-a-file'
  const files = {
    MANAGER_TOKENS: `${token}\n`,
    SIGNING_KEYS: `${'k'.repeat(32)}, ${signingKey}\n`,
    VOLUMES: volume({ root: join(directory, 'root') }, 'from-a-file'),
  }
  const env: Record<string, string> = { MANAGER_TOKENS: '', SIGNING_KEYS: '' }
  for (const [name, content] of Object.entries(files)) {
    env[`${name}_FILE`] = join(directory, name)
    await writeFile(join(directory, name), content)
  }
  const server = await startServer(t, { env })
  const response = await fetch(`${server.url}/volumes`, { headers: { authorization: `Bearer ${token}` } })
  t.match(await response.json(), { volumes: [{ name: 'from-a-file' }] })
  t.notOk(
    server.rawLines().some((line) => line.includes(token) || line.includes(signingKey)),
    'no secret in the log',
  )
})

t.test('a database that a newer version has used', onlySqlite, async (t) => {
  const server = await startServer(t)
  await server.end()
  await changeDatabase(server.dataDir, "INSERT INTO kysely_migration VALUES ('999-later', '2100')")
  const { code, stderr } = await start(server.dataDir, {})
  t.match([code, stderr], [1, /^DATA_DIR: the database .* used by a newer version .*999-later.*start that version/])
})
