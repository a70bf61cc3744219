import { type LookupAddress, type LookupOptions, lookup as resolve } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'

/**
 * Addresses that are not of the public Internet (RFC 6890 and the registries of IANA), and those that lead to such ones by
 * a translation.
 */
const special: [network: string, bits: number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  ['::', 96],
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
  ['5f00::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
]

const notPublic = new BlockList()
for (const [network, bits] of special) notPublic.addSubnet(network, bits, familyOf(network))

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}

/** Whether nothing is sent there: it is a private address, or another special one, and not of the allowed networks. */
export function isRefused(address: string, allowed: BlockList): boolean {
  // As part of an IPv6 address, one of IPv4 is judged as what it is.
  const family = familyOf(address)
  return notPublic.check(address, family) && !allowed.check(address, family)
}

export function refusal(host: string, address: string): Error {
  const where = host === address ? address : `${host} is at ${address}, which`
  return new Error(`${where} is not a public address; see WEBHOOK_PRIVATE_NETWORKS`)
}

/**
 * Resolves names for connections, and gives only addresses that may be reached: the connection is made to the very address
 * that was looked at, whatever the name says a moment later.
 */
export function checkedLookup(allowed: BlockList): LookupFunction {
  return (hostname: string, options: LookupOptions, callback) => {
    resolve(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
      if (error !== null) return callback(error, '')
      const [first] = found
      const usable = found.filter(({ address }) => !isRefused(address, allowed))
      const [chosen] = usable
      if (chosen === undefined) return callback(refusal(hostname, first?.address ?? ''), '')
      if (options.all) callback(null, usable)
      else callback(null, chosen.address, chosen.family)
    })
  }
}
