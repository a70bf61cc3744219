import { Writable } from 'node:stream'
import t from 'tap'
import { inContext } from '../../lib/context.ts'
import { createLogger } from '../../plugins/request/logging.ts'
import { DatabaseUnavailable } from '../../plugins/storage/database/failures.ts'
import { Batch } from '../../plugins/work/audit/batch.ts'
import type { AuditRow } from '../../plugins/work/audit/rows.ts'

const row: AuditRow = {
  time: 0,
  request_id: 'a-request',
  origin_request_id: null,
  act: null,
  actor: 'service',
  action: 'file.read',
  volume: null,
  vfolder: null,
  path: null,
  count: null,
  bytes: null,
  outcome: 'succeeded',
  code: null,
  subject: null,
  process: null,
}

t.test('what is logged about all rows is not logged under the request of the first one', async (t) => {
  const lines: { msg: string; request_id?: string }[] = []
  const log = createLogger(
    'info',
    new Writable({
      write(text, _encoding, done) {
        lines.push(JSON.parse(text))
        done()
      },
    }),
  )
  let isAway = true
  const batch = new Batch(async () => {
    if (isAway) throw new DatabaseUnavailable('the database is away', new Error('no connection'))
  }, log)
  await inContext({ request_id: 'a-request' }, async () => {
    batch.add([row])
    await batch.flush()
    isAway = false
    await batch.flush()
  })
  t.match(
    lines.map(({ msg }) => msg),
    [/cannot be written to/, /can be written to again/],
  )
  for (const { request_id: id } of lines) t.match(id, /^[0-9a-f-]{36}$/)
})
