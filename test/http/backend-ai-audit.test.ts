import { randomUUID } from 'node:crypto'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { assertRows, rowsOf } from '../audit.ts'
import { asBackendAi, authHeader, backendAiSecret, send } from '../backend-ai.ts'
import { startForClients } from '../backend-ai-clients.ts'
import { ended, formOf } from '../server.ts'

const storages = { minio: { volume: 'default', buckets: ['models'] }, local: { volume: 'default' } }

t.test("the audit trail of Backend.AI's wire", async (t) => {
  const vfolder = await startForClients(t, { env: { BACKEND_AI_ARTIFACTS: JSON.stringify(storages) } })
  const { server, folder, scope, vfid } = vfolder
  const actor = 'manager:backend-ai'
  const there = { volume: 'default', vfolder: folder }
  const done = { actor, outcome: 'succeeded' }
  const under = (id: string, method: string, path: string, body?: unknown) =>
    asBackendAi(server, method, path, body, { [requestIdHeader]: id })
  const file = (id: string, operation: string, more: object, of = vfid) =>
    under(id, 'POST', `/folder/file/${operation}`, { volume: 'default', vfid: of, ...more })
  const asClient = (id: string, method: string, url: string, body?: string, headers: Record<string, string> = {}) =>
    send(method, url, body, { [requestIdHeader]: id, ...headers })
  await server.upload(folder, { 'a.txt': 'abc', 'd/b.txt': 'b' })

  await t.test('limits and vfolders', async (t) => {
    const limits = { volume: 'default', qsid: scope, options: { limit_bytes: 1_000_000 } }
    const fresh = `user:${randomUUID()}`
    const made = randomUUID()
    await under('limits', 'PATCH', '/quota-scope', limits)
    await under('limits', 'DELETE', '/quota-scope/quota', limits)
    await under('limits', 'POST', '/quota-scope', limits)
    await under('limits', 'PATCH', '/quota-scope', { ...limits, qsid: 'nobody' })
    await under('limits', 'POST', '/folder/create', { volume: 'default', vfid: `${fresh}/${made}` })
    await under('limits', 'POST', '/folder/create', { volume: 'gone', vfid: `${fresh}/${made}` })
    await under('limits', 'GET', '/quota-scope', limits)
    const set = { actor, action: 'quota-scope.set', subject: scope }
    await assertRows(t, server, 'limits', [
      { ...set, ...done },
      { ...set, ...done },
      { ...set, outcome: 'refused', code: 'invalid_operation' },
      { ...set, subject: null, outcome: 'refused', code: 'validation_failed' },
      { ...set, subject: fresh, ...done },
      { action: 'folder.create', vfolder: made, ...done, volume: 'default' },
      { action: 'folder.create', vfolder: made, outcome: 'refused', code: 'volume_not_found', volume: null },
    ])
  })

  await t.test('entries', async (t) => {
    await file('entries', 'mkdir', { relpath: './new/' })
    await file('entries', 'mkdir', { relpath: ['x', 'y', 'new'] })
    await file('entries', 'mkdir', { relpath: 'new' })
    await file('entries', 'mkdir', { relpath: '../new' })
    await file('entries', 'rename', { relpath: 'a.txt', new_name: 'c.txt' })
    await file('entries', 'rename', { relpath: 'd/none', new_name: 'c.txt' })
    await file('entries', 'move', { src_relpath: 'none', dst_relpath: 'new' })
    await file('entries', 'fetch', { relpath: 'c.txt' })
    await file('entries', 'fetch', { relpath: 'd' })
    await file('entries', 'delete', { relpaths: ['c.txt', 'gone'], recursive: true })
    await file('entries', 'list', { relpath: '.' })
    const refused = { ...there, actor, outcome: 'refused' }
    await assertRows(t, server, 'entries', [
      { ...there, ...done, action: 'directory.create', path: 'new', count: null },
      { ...there, ...done, action: 'directory.create', path: null, count: 2 },
      { ...refused, action: 'directory.create', path: 'new', code: 'entry_exists' },
      { ...refused, action: 'directory.create', path: null, code: 'invalid_path' },
      { ...there, ...done, action: 'entry.move', path: 'c.txt', subject: `${folder}/a.txt` },
      { ...refused, action: 'entry.move', path: 'd/c.txt', subject: `${folder}/d/none`, code: 'entry_not_found' },
      { ...refused, action: 'entry.move', path: 'new', subject: `${folder}/none`, code: 'entry_not_found' },
      { ...there, ...done, action: 'file.read', path: 'c.txt', bytes: 3 },
      { ...refused, action: 'file.read', path: 'd', code: 'is_a_directory' },
      { ...there, ...done, action: 'entry.delete', bytes: 3 },
    ])
    t.ok((await server.ask('GET', '/requests/entries')).chapters.length > 0, 'its story')
  })

  await t.test('tokens, and who uses them', async (t) => {
    await server.upload(folder, { 'a.txt': 'abc' })
    const url = (call: string, { json }: { json: { token: string } }) =>
      `${server.url}/backend-ai/${call}?token=${json.token}`
    const download = url('download', await file('signed', 'download', { relpath: 'a.txt' }))
    const archived = { volume: 'default', virtual_folder_id: vfid, files: ['a.txt', 'd'] }
    const archive = url(
      'download-archive',
      await under('signed', 'POST', '/folder/file/archive-download-token', archived),
    )
    await file('signed', 'download', { relpath: 'a.txt' }, vfid.replace('user', 'project'))
    await asClient('c-get', 'GET', download, undefined, { range: 'bytes=1-' })
    await asClient('c-get', 'HEAD', download)
    await asClient('c-get', 'GET', `${download}&dst_dir=..`)
    const { bytes: zip } = await asClient('c-zip', 'GET', archive)
    await asClient('c-zip', 'GET', vfolder.download('d', '&archive=true', { request_id: 'signed' }))
    await asClient('c-zip', 'GET', vfolder.download('d', '', { request_id: 'signed' }))
    await asClient('guess', 'GET', `${download}x`)
    const by = { ...there, actor: /^backend-ai-token:[\w-]{8}$/, origin_request_id: 'signed' }
    await assertRows(t, server, 'signed', [
      { ...there, ...done, action: 'url.sign', path: 'a.txt', subject: 'download' },
      { ...there, ...done, action: 'url.sign', count: 2, subject: 'archive' },
      { ...there, actor, action: 'url.sign', subject: 'download', outcome: 'refused', code: 'vfolder_not_found' },
      { ...by, request_id: 'c-get', action: 'file.read', path: 'a.txt', bytes: 2, outcome: 'succeeded' },
      { ...by, request_id: 'c-get', action: 'file.read', path: null, outcome: 'refused', code: 'invalid_path' },
      { ...by, request_id: 'c-zip', action: 'archive.read', count: 2, bytes: zip.length, outcome: 'succeeded' },
      { ...by, request_id: 'c-zip', action: 'archive.read', path: 'd', outcome: 'succeeded' },
      { ...by, request_id: 'c-zip', action: 'file.read', path: 'd', outcome: 'refused', code: 'is_a_directory' },
    ])
    t.equal((await server.manager('GET', '/requests/guess')).status, 404, 'without a valid token')
  })

  await t.test('uploads', async (t) => {
    const { json } = await file('upload', 'upload', { relpath: 'in/up.bin', size: 70_000 })
    const url = `${server.url}/backend-ai/upload?token=${json.token}`
    const patch = (offset: number, length: number) =>
      asClient(`at-${offset}`, 'PATCH', url, 'x'.repeat(length), { 'upload-offset': String(offset) })
    await asClient('at-head', 'HEAD', url)
    await patch(0, 66_000)
    await patch(9, 1)
    await patch(66_000, 4000)
    const by = { ...there, actor: /^backend-ai-token:/, origin_request_id: 'upload', path: 'in/up.bin' }
    const rows = await assertRows(t, server, 'upload', [
      { ...there, ...done, action: 'url.sign', path: 'in/up.bin', subject: 'upload' },
      { ...by, request_id: 'at-0', action: 'upload.begin', bytes: 70_000 },
      { ...by, request_id: 'at-0', action: 'upload.append', outcome: 'succeeded' },
      { ...by, request_id: 'at-9', action: 'upload.append', outcome: 'refused', code: 'upload_offset_mismatch' },
      { ...by, request_id: 'at-66000', action: 'file.store', bytes: 70_000 },
      { ...by, request_id: 'at-66000', action: 'upload.append', outcome: 'succeeded' },
    ])
    t.equal(new Set(rows.slice(1).map(({ subject }) => subject)).size, 1, 'all of one upload')

    const empty = vfolder.upload('empty', 0, '', { request_id: 'empty' })
    await asClient('e-head', 'HEAD', empty)
    await asClient('e-small', 'PATCH', vfolder.upload('s', 1, '', { request_id: 'empty' }), 's', {
      'upload-offset': '0',
    })
    const stored = { ...there, actor: /^backend-ai-token:/, action: 'file.store', outcome: 'succeeded' }
    await assertRows(t, server, 'empty', [
      { ...stored, request_id: 'e-head', path: 'empty', bytes: 0 },
      { ...stored, request_id: 'e-small', path: 's', bytes: 1 },
      { request_id: 'e-small', action: 'upload.append', path: 's' },
    ])
  })

  await t.test('jobs', async (t) => {
    const target = randomUUID()
    const ids = { src_volume: 'default', src_vfid: vfid, dst_volume: 'default', dst_vfid: `${scope}/${target}` }
    const { json } = await under('clone', 'POST', '/folder/clone', ids)
    await ended(server, json.bgtask_id)
    await under('refused', 'POST', '/folder/clone', { ...ids, src_vfid: `${scope}/${randomUUID()}` })
    const clone = { actor, action: 'folder.clone', vfolder: target, volume: 'default' }
    const rowOf = async (id: string, action: string) =>
      (await rowsOf(server, id, 4)).find((row) => row.action === action && row.actor === actor)
    t.match(await rowOf('clone', 'folder.clone'), { ...clone, subject: folder })
    await assertRows(t, server, 'refused', [{ ...clone, outcome: 'refused', code: 'vfolder_not_found' }])
    const removal = await under('removal', 'POST', '/folder/delete', { volume: 'default', vfid: ids.dst_vfid })
    await ended(server, removal.json.bgtask_id)
    t.match(await rowOf('removal', 'folder.delete'), { actor, vfolder: target })
  })

  await t.test('artifacts', async (t) => {
    const objects = '/v1/storages/s3/minio/buckets/models/object'
    const files = '/v1/storages/vfs/local'
    const upload = (path: string) =>
      fetch(`${server.managerUrl}/backend-ai${path}`, {
        method: 'POST',
        headers: { [authHeader]: backendAiSecret, [requestIdHeader]: 'artifacts' },
        body: formOf({ any: 'abc' }),
      })
    await upload(`${objects}/upload?key=k/a`)
    await under('artifacts', 'POST', `${objects}/download`, { key: 'k/a' })
    await under('artifacts', 'POST', `${objects}/presigned/download`, { key: 'k/a' })
    await under('artifacts', 'DELETE', objects, { key: 'k' })
    await under('artifacts', 'POST', `${objects.replace('models', 'none')}/download`, { key: 'k/a' })
    await upload(`${files}/upload?filepath=f/a`)
    const tar = await under('artifacts', 'POST', `${files}/download`, { filepath: 'f' })
    await under('artifacts', 'DELETE', files, { filepath: 'none' })
    const bucket = { actor, volume: 'default' }
    const rows = await assertRows(t, server, 'artifacts', [
      { ...bucket, action: 'folder.create' },
      { ...bucket, action: 'file.store', path: 'k/a', bytes: 3 },
      { ...bucket, action: 'file.read', path: 'k/a', bytes: 3 },
      { ...bucket, action: 'url.sign', path: 'k/a', subject: 'download' },
      { ...bucket, action: 'entry.delete', path: 'k' },
      { actor, action: 'file.read', vfolder: null, path: 'k/a', outcome: 'refused', code: 'entry_not_found' },
      { ...bucket, action: 'folder.create' },
      { ...bucket, action: 'file.store', path: 'f/a' },
      { ...bucket, action: 'archive.read', path: 'f', bytes: tar.bytes.length },
      { ...bucket, action: 'entry.delete', path: 'none' },
    ])
    t.equal(new Set(rows.slice(0, 5).map(({ vfolder }) => vfolder)).size, 1)
  })
})
