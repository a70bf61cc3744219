import { BlockList } from 'node:net'
import t from 'tap'
import { loadConfig } from '../../plugins/config.ts'
import { checkedLookup, isRefused } from '../../plugins/work/events/addresses.ts'
import { parseWebhooks } from '../../plugins/work/events/webhook-settings.ts'

const none = new BlockList()
const refused = [
  '127.0.0.1',
  '127.255.0.1',
  '0.0.0.0',
  '10.1.2.3',
  '100.64.0.1',
  '169.254.169.254',
  '172.31.255.255',
  '192.168.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::ffff:127.0.0.1',
  '::ffff:a9fe:a9fe',
  '::127.0.0.1',
  '64:ff9b::7f00:1',
  '2002:7f00:1::',
  'fc00::1',
  'fd12:3456::1',
  'fe80::1',
  'ff02::1',
]
const open = [
  '1.1.1.1',
  '100.63.255.255',
  '172.32.0.1',
  '192.0.1.1',
  '2606:4700::1111',
  '2a00:1450::1',
  '::ffff:1.1.1.1',
]

t.test('what is not of the public Internet is refused', async (t) => {
  for (const address of refused) t.ok(isRefused(address, none), address)
  for (const address of open) t.notOk(isRefused(address, none), address)
})

t.test('unless it is allowed', async (t) => {
  const some = new BlockList()
  some.addSubnet('10.1.0.0', 16, 'ipv4')
  some.addSubnet('fd12::', 16, 'ipv6')
  t.notOk(isRefused('10.1.2.3', some))
  t.notOk(isRefused('::ffff:10.1.2.3', some))
  t.notOk(isRefused('fd12::1', some))
  t.ok(isRefused('10.2.0.1', some))
})

t.test('a name is only as good as its addresses', async (t) => {
  const local = new BlockList()
  local.addSubnet('127.0.0.0', 8, 'ipv4')
  const find = (name: string, allowed: BlockList) =>
    new Promise((resolve) => {
      checkedLookup(allowed)(name, { all: true }, (error, addresses) => resolve(error?.message ?? addresses))
    })
  t.match(await find('localhost', none), /localhost is at .*, which is not a public address/)
  t.same(await find('localhost', local), [{ address: '127.0.0.1', family: 4 }])
})

const secret = Buffer.alloc(24, 'x')
const WEBHOOK_SECRETS = `whsec_${secret.toString('base64')}`

t.test('endpoints and secrets', async (t) => {
  const WEBHOOK_URLS = 'https://x.example/events?key=1, other=http://[2a00:1450::1]:8080/'
  const { endpoints, secrets } = parseWebhooks(loadConfig({ WEBHOOK_URLS, WEBHOOK_SECRETS }))
  t.same(
    endpoints.map(({ name, url }) => [name, url.href]),
    [
      ['https://x.example/events', 'https://x.example/events?key=1'],
      ['other', 'http://[2a00:1450::1]:8080/'],
    ],
  )
  t.same(secrets, [secret])
})

t.test('those that do not fit', async (t) => {
  const urls = (WEBHOOK_URLS: string) => () => parseWebhooks(loadConfig({ WEBHOOK_URLS, WEBHOOK_SECRETS }))
  for (const text of ['ftp://x.example', 'x.example', 'https://x/#a', 'https://x,', 'a b=https://x']) {
    t.throws(urls(text), /^WEBHOOK_URLS must have http and https URLs without a fragment/)
  }
  t.throws(urls('https://a:b@x.example'), /WEBHOOK_URLS must have URLs without user and password/)
  t.throws(urls('https://x/?1,https://x/?2'), /WEBHOOK_URLS must have each endpoint once, by another name/)
  for (const WEBHOOK_SECRETS of ['x', 'whsec_', 'whsec_eA==', `whsec_${'x'.repeat(31)}!`, `whsec_${'x'.repeat(100)}`]) {
    const parse = () => parseWebhooks(loadConfig({ WEBHOOK_URLS: 'https://x', WEBHOOK_SECRETS }))
    t.throws(parse, /WEBHOOK_SECRETS must have whsec_ and 24 to 64 bytes in base64/)
  }
  for (const WEBHOOK_PRIVATE_NETWORKS of [
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0',
    'x.example',
    '::1/129',
    '10.0.0.0/8/8',
  ]) {
    t.throws(() => parseWebhooks(loadConfig({ WEBHOOK_PRIVATE_NETWORKS })), /WEBHOOK_PRIVATE_NETWORKS must have/)
  }
})
