import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { ConfigError, type Setting } from '../../config.ts'

/** Where a PostgreSQL is, and as whom to speak to it. */
export interface Server {
  host: string
  port: number
  user: string
  password: string | undefined
  database: string
  ssl: ConnectionOptions | false
  application_name: string
}

/** How the connection is protected, as libpq names it; what falls back to less by itself is not offered. */
const modes = ['disable', 'require', 'verify-ca', 'verify-full'] as const

const parameters = ['sslmode', 'sslrootcert', 'application_name']

/**
 * Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with some of the parameters that libpq knows
 * (postgresql.org/docs/current/libpq-connect.html). No message repeats a part that may have the password.
 * @throws {ConfigError}
 */
export function parseDatabaseUrl({ name, text }: Setting): Server {
  const url = URL.parse(text)
  const path = url?.pathname.slice(1) ?? ''
  const isComplete = url !== null && /^postgres(ql)?:$/.test(url.protocol) && url.hostname && url.username && path
  if (!isComplete || url.hash || path.includes('/')) {
    throw new ConfigError(
      `${name} must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, with percent signs in place of other characters`,
    )
  }
  const unknown = [...url.searchParams.keys()].find((key) => !parameters.includes(key))
  if (unknown !== undefined) throw new ConfigError(`${name} may have ${parameters.join(', ')}, not ${unknown}`)
  const host = decode(name, url.hostname)
  if (host.includes(',')) throw new ConfigError(`${name} must name one host`)
  return {
    host: host.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port || 5432),
    user: decode(name, url.username),
    password: url.password === '' ? undefined : decode(name, url.password),
    database: decode(name, path),
    ssl: parseTls(name, url.searchParams),
    application_name: url.searchParams.get('application_name') ?? 'storage-proxy',
  }
}

function decode(name: string, text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new ConfigError(`${name} must have percent-encoded UTF-8 in its user, password, host and database`)
  }
}

function parseTls(name: string, given: URLSearchParams): Server['ssl'] {
  const file = given.get('sslrootcert')
  const text = given.get('sslmode') ?? (file === null ? 'disable' : 'verify-full')
  const mode = modes.find((mode) => mode === text)
  if (mode === undefined) throw new ConfigError(`${name}: sslmode must be one of ${modes.join(', ')}`)
  if (mode === 'disable') {
    if (file !== null) throw new ConfigError(`${name}: sslrootcert is of no use with sslmode=disable`)
    return false
  }
  const ca = file === null ? undefined : readCertificates(name, file)
  return {
    // As libpq has it, a file to verify with is used also where only encryption is asked for.
    rejectUnauthorized: mode !== 'require' || ca !== undefined,
    ...(ca !== undefined && { ca }),
    ...(mode !== 'verify-full' && { checkServerIdentity: () => undefined }),
  }
}

function readCertificates(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new ConfigError(`${name}: sslrootcert must name a file that can be read, not ${file}`, { cause: error })
  }
}
