import { isIP } from 'node:net'
import { ConfigError } from './error.ts'
import type { Values } from './variables.ts'

export interface Listener {
  host: string
  port: number
}

export function managerListenerOf(values: Values): Listener | undefined {
  if (values.MANAGER_PORT === undefined) {
    if (values.MANAGER_HOST !== undefined) throw new ConfigError('MANAGER_HOST must be set together with MANAGER_PORT')
    return undefined
  }
  const { HOST, PORT, MANAGER_HOST: host = HOST, MANAGER_PORT: port } = values
  requireApart('MANAGER_PORT', { host, port }, 'PORT', { host: HOST, port: PORT })
  return { host, port }
}

export function requireApart(name: string, one: Listener, otherName: string, other: Listener): void {
  // An address such as 0.0.0.0 is that of every interface.
  const overlap = one.host === other.host || [one, other].some(({ host }) => /^[0.:]+$/.test(host))
  if (one.port === other.port && one.port !== 0 && overlap) {
    throw new ConfigError(`${name} must differ from ${otherName}, unless their hosts are different addresses`)
  }
}

export function parseUrl(name: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol) || /[?#@]/.test(text)) {
    throw new ConfigError(`${name} must be an http or https URL without user, query and fragment`)
  }
  return url.href.replace(/\/+$/, '')
}

export function parseCorsOrigins(text: string): '*' | string[] {
  if (text === '*') return '*'
  const origins = text.split(',').map((origin) => origin.trim())
  if (origins.some((origin) => URL.parse(origin)?.origin !== origin)) {
    throw new ConfigError('CORS_ORIGINS must be * or origins, such as https://app.example, without path and slash')
  }
  return origins
}

/** A range is an address and the length of its prefix; one of all addresses would let anybody say any address. */
export function parseProxies(text: string): string[] {
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
