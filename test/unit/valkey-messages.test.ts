import t from 'tap'
import { messagesOf, progressOf, toFields } from '../../plugins/work/valkey/messages.ts'
import { pack } from '../../plugins/work/valkey/msgpack.ts'

const id = '0198c7a5-6b1c-7e2d-8f3a-4b5c6d7e8f90'
const folder = 'f9bb0c7a-0000-4000-8000-0000000000a0'
const hex = folder.replaceAll('-', '')
const scope = 'user:00000000-0000-0000-0000-000000000007'
const volume = 'default'

function ended(kind: string, state: string, more: object, error?: object) {
  const job = { id, kind, folder, state, ...(error && { error }) }
  const data = { job, ...more }
  return {
    id,
    type: 'job.ended',
    timestamp: '',
    requestId: 'r-1',
    originRequestId: null,
    folder,
    volume,
    cursor: '1',
    data,
  }
}

t.test('the bytes of MessagePack are those of its specification', async (t) => {
  const hexOf = (...items: (string | number)[]) => pack(items).toString('hex')
  t.equal(hexOf('a', 'bc'), '92a161a26263')
  t.equal(hexOf('', 0, 127, 128, 255, 256), '96a0007fcc80ccffcd0100')
  t.equal(hexOf(65535, 65536, 2 ** 32 - 1), '93cdffffce00010000ceffffffff')
  t.equal(hexOf(0.5, 2 ** 32, -1), '93cb3fe0000000000000cb41f0000000000000cbbff0000000000000')
  t.equal(hexOf('ü'.repeat(15)).slice(0, 4), '91be', '30 bytes')
  t.equal(hexOf('ü'.repeat(16)).slice(0, 6), '91d920', '32 bytes')
  t.equal(hexOf('x'.repeat(256)).slice(0, 8), '91da0100')
  t.equal(hexOf('x'.repeat(65536)).slice(0, 12), '91db00010000')
  t.equal(hexOf(...Array.from({ length: 16 }, () => 1)).slice(0, 6), 'dc0010')
})

t.test('an end is said as the manager knows it', async (t) => {
  const vfid = `${scope}/${hex}`
  const source = { folder: id, quotaScope: null }
  const clone = { vfid: id.replaceAll('-', ''), dst_vfid: vfid }
  const error = { code: 'no_space', detail: 'The volume is full.' }
  const message = 'no_space: The volume is full.'
  const cases = [
    ['delete-vfolder', 'succeeded', {}, 'vfolder_deletion_success', { vfid }],
    ['delete-vfolder', 'failed', {}, 'vfolder_deletion_failure', { vfid, message }],
    ['clone-vfolder', 'succeeded', { source }, 'vfolder_clone_success', clone],
    ['clone-vfolder', 'failed', { source }, 'vfolder_clone_failure', { ...clone, message }],
    ['clone-vfolder', 'cancelled', { source }, 'vfolder_clone_failure', { ...clone, message }],
  ] as const
  for (const [kind, state, more, name, members] of cases) {
    const failure = state === 'succeeded' ? undefined : error
    const { event, task } = messagesOf(ended(kind, state, { quotaScope: scope, ...more }, failure))
    t.same(event, { name, members, requestId: 'r-1' }, `${kind} ${state}`)
    t.match(task, { id, members: { task_id: id } })
  }
  const { event } = messagesOf(ended('delete-vfolder', 'succeeded', { quotaScope: scope }))
  const fields = toFields(event!)
  t.same(fields.slice(0, 8), [
    ...['name', 'vfolder_deletion_success', 'source', 'storage'],
    ...['payload', `{"vfid":"${vfid}"}`, 'metadata', '{"request_id":"r-1"}'],
  ])
})

t.test('of others only the task is told, or nothing', async (t) => {
  t.match(messagesOf(ended('delete-vfolder', 'succeeded', {})), { event: undefined, task: { name: 'bgtask_done' } })
  t.match(messagesOf(ended('delete-entries', 'cancelled', {})), {
    event: undefined,
    task: { name: 'bgtask_cancelled' },
  })
  const created = { ...ended('', '', {}), type: 'vfolder.created', data: { adopted: false } }
  t.same(messagesOf(created), {})
})

t.test('progress', async (t) => {
  const progress = { filesDone: 3, filesTotal: null, bytesDone: 0, bytesTotal: null }
  const times = { createdAt: '', startedAt: null, finishedAt: null }
  const job = {
    id,
    kind: 'clone-vfolder',
    folder,
    state: 'running' as const,
    progress,
    requestId: 'r-1',
    attempts: 1,
    ...times,
  }
  const members = { task_id: id, current_progress: 3, total_progress: 3, message: 'clone-vfolder' }
  t.same(progressOf(job), { name: 'bgtask_updated', members, requestId: 'r-1' })
})
