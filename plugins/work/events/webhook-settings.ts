import { BlockList, isIP } from 'node:net'
import { type Config, ConfigError, type Setting } from '../../config.ts'

export interface WebhookEndpoint {
  name: string
  url: URL
}

export interface WebhookSettings {
  endpoints: WebhookEndpoint[]
  /** All of them sign, so that a receiver may have any one of them. */
  secrets: Buffer[]
  /** Private networks that may be reached. */
  networks: BlockList
}

/** As Standard Webhooks recommends. */
const secretPrefix = 'whsec_'
const leastSecretBytes = 24
const mostSecretBytes = 64

/** @throws {ConfigError} */
export function parseWebhooks({ webhookUrls, webhookSecrets, webhookPrivateNetworks }: Config): WebhookSettings {
  const endpoints =
    webhookUrls === undefined ? [] : itemsOf(webhookUrls).map((item) => parseEndpoint(webhookUrls, item))
  for (const [index, { name }] of endpoints.entries()) {
    if (endpoints.findIndex((other) => other.name === name) === index) continue
    throw refusal(webhookUrls, `must have each endpoint once, by another name, and has ${name} twice`)
  }
  if (endpoints.length > 0 && webhookSecrets === undefined) {
    throw new ConfigError('WEBHOOK_SECRETS must be set where WEBHOOK_URLS is: it signs what is sent')
  }
  const secrets =
    webhookSecrets === undefined ? [] : itemsOf(webhookSecrets).map((item) => parseSecret(webhookSecrets, item))
  return { endpoints, secrets, networks: parseNetworks(webhookPrivateNetworks) }
}

function itemsOf({ text }: Setting): string[] {
  return text.split(',').map((item) => item.trim())
}

function refusal(setting: Setting | undefined, rule: string): ConfigError {
  return new ConfigError(`${setting?.name} ${rule}`, { file: setting?.file })
}

/** `name=https://…`, or a URL, whose name is the URL without what may be secret. */
function parseEndpoint(setting: Setting, item: string): WebhookEndpoint {
  const [, given, text = item] = /^([A-Za-z0-9._-]{1,63})=(.*)$/.exec(item) ?? []
  const url = URL.parse(text)
  // What it is, is not told: it may have a secret.
  if (url === null || !/^https?:$/.test(url.protocol) || url.hash !== '') {
    throw refusal(setting, 'must have http and https URLs without a fragment, or name=URL, separated by commas')
  }
  if (url.username !== '' || url.password !== '') throw refusal(setting, 'must have URLs without user and password')
  return { name: given ?? url.origin + url.pathname, url }
}

function parseSecret(setting: Setting, item: string): Buffer {
  const rule = `must have ${secretPrefix} and ${leastSecretBytes} to ${mostSecretBytes} bytes in base64 in each of its values`
  const base64 = item.startsWith(secretPrefix) ? item.slice(secretPrefix.length) : ''
  const secret = Buffer.from(base64, 'base64')
  const isWhole = secret.toString('base64').replace(/=+$/, '') === base64.replace(/=+$/, '')
  if (!isWhole || secret.length < leastSecretBytes || secret.length > mostSecretBytes) throw refusal(setting, rule)
  return secret
}

function parseNetworks(text: string): BlockList {
  const networks = new BlockList()
  for (const item of text
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean)) {
    const [address = '', bits, ...rest] = item.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    const most = family === 'ipv6' ? 128 : 32
    const prefix = bits === undefined ? most : Number(bits)
    if (isIP(address) === 0 || rest.length > 0 || !/^\d*$/.test(bits ?? '') || bits === '' || prefix > most) {
      throw new ConfigError(
        `WEBHOOK_PRIVATE_NETWORKS must have addresses or networks, such as 10.1.0.0/16, not ${item}`,
      )
    }
    networks.addSubnet(address, prefix, family)
  }
  return networks
}
