import { randomUUID } from 'node:crypto'
import { Value } from '@sinclair/typebox/value'
import { pino } from 'pino'
import t from 'tap'
import { parsePath } from '../../backends/path.ts'
import { s3 } from '../../backends/s3/index.ts'
import { s3Options } from '../../backends/s3/options.ts'
import { refusing } from '../refusing-s3.ts'

/** What servers answer, and what the service makes of it. Amazon S3's, unless the name says another one. */
const answers: [status: number, name: string, code: string][] = [
  [403, 'AccessDenied', 'storage_access_denied'],
  [403, 'AllAccessDisabled', 'storage_access_denied'],
  [403, 'InvalidAccessKeyId', 'storage_access_denied'],
  [403, 'SignatureDoesNotMatch', 'storage_access_denied'],
  [403, 'RequestTimeTooSkewed', 'storage_access_denied'],
  [403, 'AccountProblem', 'storage_access_denied'],
  [400, 'ExpiredToken', 'storage_access_denied'],
  [400, 'InvalidToken', 'storage_access_denied'],
  [301, 'PermanentRedirect', 'storage_access_denied'],
  [404, 'NoSuchBucket', 'storage_unavailable'],
  [503, 'SlowDown', 'storage_unavailable'],
  [503, 'ServiceUnavailable', 'storage_unavailable'],
  [500, 'InternalError', 'storage_unavailable'],
  [400, 'RequestTimeout', 'storage_unavailable'],
  [429, 'TooManyRequests', 'storage_unavailable'],
  [502, 'BadGateway', 'storage_unavailable'],
  [403, 'QuotaExceeded', 'quota_exceeded'],
  [409, 'XMinioAdminBucketQuotaExceeded', 'quota_exceeded'],
  [507, 'XMinioStorageFull', 'no_space'],
  [400, 'EntityTooLarge', 'no_space'],
  [400, 'KeyTooLongError', 'invalid_path'],
  [400, 'XMinioInvalidObjectName', 'invalid_path'],
  [409, 'OperationAborted', 'entry_busy'],
  [409, 'ConditionalRequestConflict', 'entry_busy'],
  [412, 'PreconditionFailed', 'precondition_failed'],
  [416, 'InvalidRange', 'source_changed'],
  [403, 'InvalidObjectState', 'invalid_operation'],
  [405, 'MethodNotAllowed', 'storage_access_denied'],
  [501, 'NotImplemented', 'storage_access_denied'],
  [400, 'InvalidArgument', 'storage_access_denied'],
  [400, 'SomethingNew', 'storage_access_denied'],
]

t.test('each error of an S3 server has its code', async (t) => {
  const signal = AbortSignal.timeout(60_000)
  for (const [status, name, code] of answers) {
    const options = Value.Default(s3Options, {
      bucket: 'files',
      endpoint: await refusing(t, status, name, '', 404),
      accessKeyId: 'key',
      secretAccessKey: 'secret',
      maxAttempts: 1,
    })
    const log = pino({ level: 'silent' })
    const backend = await s3.create({ options, signal, log, idleSeconds: 240 })
    t.teardown(() => backend.close())
    const list = async () => {
      for await (const _ of backend.list(randomUUID(), { signal })) return
    }
    await t.rejects(list(), { code }, `${status} ${name}, list`)
    const write = backend.write(randomUUID(), parsePath('a.txt'), oneByte(), { size: 1, signal })
    await t.rejects(write, { code }, `${status} ${name}, write`)
  }
})

async function* oneByte(): AsyncGenerator<Buffer> {
  yield Buffer.from('x')
}
