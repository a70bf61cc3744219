import { pino } from 'pino'
import t from 'tap'
import { s3 } from '../../backends/s3/index.ts'
import { refusing } from '../refusing-s3.ts'
import { call } from '../s3.ts'
import { type Server, startServer } from '../server.ts'

type Test = { teardown(fn: () => unknown): void }

const secrets = { accessKeyId: 'AKIDEXAMPLEOFOURS', secretAccessKey: 'secret-of-ours', sessionToken: 'session-of-ours' }

async function start(t: Test, volume: object, env: Record<string, string> = {}): Promise<Server> {
  const VOLUMES = JSON.stringify({ default: { backend: 's3', bucket: 'files', maxAttempts: 1, ...volume } })
  return startServer(t, { env: { VOLUMES, LOG_LEVEL: 'trace', ...env } })
}

/** Why the volume is not well. */
async function reason(server: Server): Promise<string> {
  const { checks } = (await (await fetch(`${server.managerUrl}/readyz`)).json()) as { checks: { reason?: string }[] }
  return checks.map(({ reason = '' }) => reason).join('')
}

const refusals: [status: number, code: string, more: string, reason: string][] = [
  [
    403,
    'InvalidAccessKeyId',
    `<AWSAccessKeyId>${secrets.accessKeyId}</AWSAccessKeyId>`,
    'the storage denies access with InvalidAccessKeyId',
  ],
  [
    403,
    'SignatureDoesNotMatch',
    `<StringToSign>AWS4-HMAC-SHA256</StringToSign>`,
    'the storage denies access with SignatureDoesNotMatch',
  ],
  [400, 'ExpiredToken', `<Token-0>${secrets.sessionToken}</Token-0>`, 'the storage denies access with ExpiredToken'],
  [400, 'InvalidToken', `<Token-0>${secrets.sessionToken}</Token-0>`, 'the storage denies access with InvalidToken'],
  [
    400,
    'SomethingNew',
    `<Token-0>${secrets.sessionToken}</Token-0>`,
    'the storage refuses a command with 400 SomethingNew: No.',
  ],
  [501, 'NotImplemented', '', 'the storage refuses a command with 501 NotImplemented: No.'],
  [301, 'PermanentRedirect', '', 'the storage refuses a command with 301 PermanentRedirect: No.'],
  [503, 'SlowDown', '', 'the storage answers 503'],
]

for (const [status, code, more, expected] of refusals) {
  t.test(`why the storage refuses is told, and no secret with it: ${code}`, async (t) => {
    const server = await start(t, { endpoint: await refusing(t, status, code, more), ...secrets })
    t.equal(await reason(server), expected)
    const answer = await server.manager('POST', '/folders', {})
    t.ok(answer.status >= 500)
    await server.logged((line) => JSON.stringify(line).includes(code))
    const log = server.rawLines().join('\n')
    for (const secret of [...Object.values(secrets), 'AWS4-HMAC'])
      t.notMatch(log + (await answer.clone().text()), secret)
  })
}

t.test('who has no credentials is told so', async (t) => {
  const endpoint = await refusing(t, 403, 'AccessDenied')
  const server = await start(t, { endpoint }, { AWS_EC2_METADATA_DISABLED: 'true', HOME: '/nonexistent' })
  t.match(await reason(server), /^there are no credentials for the storage: /)
})

t.test('an endpoint that is none, or has a secret in it, stops the start', async (t) => {
  for (const endpoint of ['http://', 'http://bad host', 'https://user:password@s3.example', 'http://s3.example/?a']) {
    for (const name of ['endpoint', 'publicEndpoint']) {
      const options = { bucket: 'files', [name]: endpoint }
      await t.rejects(s3.create({ options, log: pino({ level: 'silent' }), idleSeconds: 240, ...call }), {
        message: `${name} must be the URL of a server, without user and query`,
      })
    }
  }
})
