import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { asBackendAi, authHeader, backendAiSecret, comparing, send, startBackendAi } from '../backend-ai.ts'
import { type Answer, ended } from '../server.ts'
import { needing } from '../tools.ts'

/** Debian's, which has Debian's modules. */
const python = '/usr/bin/python3'

const user = '00000000-0000-0000-0000-000000000007'
const vfid = `user:${user}/f9bbd38b04fb4eb382da7902bd4eb8a0`
const missing = `user:${user}/dfee28abad73453f95df578de5768584`
const scope = { volume: 'volume1', qsid: `user:${user}` }
const folder = { volume: 'volume1', vfid }

t.test("Backend.AI's manager", async (t) => {
  const server = await startBackendAi(t)
  const base = `${server.managerUrl}/backend-ai`
  const like = comparing(t)

  const call = (method: string, path: string, body?: unknown) => asBackendAi(server, method, path, body)
  const file = (operation: string, more: object, at = folder) =>
    call('POST', `/folder/file/${operation}`, { ...at, ...more })

  await t.test('answers as the recorded ones, or as the table says', async (t) => {
    await like('GET /volumes', send('GET', `${base}/volumes`))
    await like(
      'wrong token',
      send('GET', `${base}/volumes`, undefined, { [authHeader]: 'x'.repeat(backendAiSecret.length) }),
    )
    await like('GET /', call('GET', '/'))
    await like('GET / no auth', send('GET', `${base}/`))
    await like('GET /status', call('GET', '/status'))
    await like('GET /volumes (2)', call('GET', '/volumes'))
    await like('GET /nowhere', call('GET', '/nowhere'))
    await like('PUT /volumes', call('PUT', '/volumes'))
    await like('GET /volume/hwinfo', call('GET', '/volume/hwinfo', { volume: 'volume1' }))
    await like('GET /volume/hwinfo (2)', call('GET', '/volume/hwinfo', { volume: 'nope' }))
    await like('GET /volume/hwinfo (3)', call('GET', '/volume/hwinfo', {}))
    await like('GET /volume/hwinfo (4)', call('GET', '/volume/hwinfo', '{'))
    await like('GET /volume/performance-metric', call('GET', '/volume/performance-metric', { volume: 'volume1' }))
    await like('GET /folder/fs-usage', call('GET', '/folder/fs-usage', { volume: 'volume1' }))

    await like('GET /quota-scope', call('GET', '/quota-scope', { ...scope, qsid: `user:${randomUUID()}` }))
    await like('GET /quota-scope (2)', call('GET', '/quota-scope', { ...scope, qsid: 'bad' }))
    await like('GET /quota-scope (3)', call('GET', '/quota-scope', { ...scope, qsid: '' }))
    await like('POST /folder/create', call('POST', '/folder/create', { ...folder, options: null }))
    await like('create again', call('POST', '/folder/create', folder))
    await like(
      'create without quota scope',
      call('POST', '/folder/create', { ...folder, vfid: 'f9bbd38b04fb4eb382da7902bd4eb8a0' }),
    )
    await like('create bad vfid', call('POST', '/folder/create', { ...folder, vfid: 'zzz' }))
    await like('create no body', call('POST', '/folder/create'))
    await like('quota-scope create existing', call('POST', '/quota-scope', scope))
    await like('GET /quota-scope (4)', call('GET', '/quota-scope', scope))
    await like('PATCH /quota-scope', call('PATCH', '/quota-scope', { ...scope, options: { limit_bytes: 1000 } }))
    await like('DELETE /quota-scope/quota', call('DELETE', '/quota-scope/quota', scope))

    await like('GET /folder/mount', call('GET', '/folder/mount', { ...folder, subpath: '.' }))
    await like('GET /folder/mount (2)', call('GET', '/folder/mount', { ...folder, subpath: '../..' }))
    await like('GET /folder/mount (3)', call('GET', '/folder/mount', { ...folder, subpath: 'not/there' }))
    await like('mount of missing', call('GET', '/folder/mount', { ...folder, vfid: missing, subpath: '.' }))
    await like('GET /folder/usage', call('GET', '/folder/usage', folder))
    await like('GET /folder/used-bytes', call('GET', '/folder/used-bytes', folder))
    await like('usage of missing', call('GET', '/folder/usage', { ...folder, vfid: missing }))
    await like('used-bytes of missing', call('GET', '/folder/used-bytes', { ...folder, vfid: missing }))
    await like('GET /volume/quota', call('GET', '/volume/quota', folder))
    await like('GET /folder/metadata', call('GET', '/folder/metadata', folder))
    await like('PATCH /volume/quota', call('PATCH', '/volume/quota', { ...folder, size_bytes: 5 }))

    await like('POST /folder/file/mkdir', file('mkdir', { relpath: 'a', parents: 'true', exist_ok: 'false' }))
    await like('mkdir partly', file('mkdir', { relpath: ['a', 'b/c'] }))
    await like('mkdir all fail', file('mkdir', { relpath: 'a' }))
    await like('mkdir escape', file('mkdir', { relpath: '../x' }))
    await like('mkdir abs', file('mkdir', { relpath: '/x' }))
    await like('POST /folder/file/list', file('list', { relpath: '.' }))
    await like('POST /folder/file/list (2)', file('list', { relpath: 'nope' }))
    await like('POST /folder/file/list (3)', file('list', { relpath: '../..' }))
    await like('list of missing', file('list', { relpath: '.' }, { ...folder, vfid: missing }))
    await like('POST /folder/file/upload', file('upload', { relpath: 'a/hello.txt', size: '11' }))
    await like('upload session of missing', file('upload', { relpath: 'x', size: 1 }, { ...folder, vfid: missing }))
    await like('upload session of 0 bytes', file('upload', { relpath: 'empty.txt', size: 0 }))
    await like('upload session of 3', file('upload', { relpath: 'over.txt', size: 3 }))

    await server.upload(toUuid(vfid), { 'sub/a/hello.txt': 'hello world', 'empty.txt': '', 'over.txt': 'over1' })
    await like('POST /folder/file/list (4)', file('list', { relpath: '' }))
    await like('POST /folder/file/download', file('download', { relpath: 'sub/a/hello.txt', archive: 'false' }))
    await like('POST /folder/file/download (2)', file('download', { relpath: 'nope.txt' }))
    await like('POST /folder/file/download (3)', file('download', { relpath: 'sub' }))
    const archive = { volume: 'volume1', virtual_folder_id: vfid }
    const selected = { ...archive, files: ['sub', 'empty.txt'], filename: 'x y.zip' }
    await like('POST /folder/file/archive-download-token', file('archive-download-token', selected))
    await like('archive token no files', file('archive-download-token', { ...archive, files: [] }))
    await like('archive token bad name', file('archive-download-token', { ...archive, files: ['a'], filename: 'a/b' }))
    await like(
      'POST /folder/file/archive-download-token (2)',
      file('archive-download-token', { ...archive, files: ['gone'] }),
    )
    const fetched = await like('POST /folder/file/fetch', file('fetch', { relpath: 'sub/a/hello.txt' }))
    t.equal(fetched.text, 'hello world')
    await like('POST /folder/file/fetch (2)', file('fetch', { relpath: 'nope' }))
    await like('POST /folder/file/fetch (3)', file('fetch', { relpath: 'sub' }))
    t.equal((await like('POST /folder/file/fetch (4)', file('fetch', { relpath: 'empty.txt' }))).text, '')

    await like('POST /folder/file/rename', file('rename', { relpath: 'sub/a/hello.txt', new_name: 'h.txt' }))
    await like('POST /folder/file/rename (2)', file('rename', { relpath: 'nope', new_name: 'x' }))
    await like('POST /folder/file/rename (3)', file('rename', { relpath: 'sub', new_name: 'a/b' }))
    await like('POST /folder/file/move', file('move', { src_relpath: 'sub/a/h.txt', dst_relpath: 'b' }))
    t.equal((await file('fetch', { relpath: 'b/h.txt' })).text, 'hello world', 'it is in the directory')
    await like('POST /folder/file/move (2)', file('move', { src_relpath: 'nope', dst_relpath: 'x' }))
    const lost = await like(
      'POST /folder/file/move (3)',
      file('move', { src_relpath: 'b/h.txt', dst_relpath: 'not/there/h.txt' }),
    )
    t.same(lost.json.paths, ['not/there/h.txt'])
    await like('move over file', file('move', { src_relpath: 'b/h.txt', dst_relpath: 'over.txt' }))
    await like('POST /folder/file/delete', file('delete', { relpaths: ['over.txt', 'nope'], recursive: false }))
    await like('delete dir not recursive', file('delete', { relpaths: ['b'], recursive: false }))
    const { items } = (await like('POST /folder/file/list (5)', file('list', { relpath: './' }))).json
    t.same(items.map((item: Answer) => item.name).toSorted(), ['a', 'b', 'empty.txt', 'sub'])
    await like('delete dir recursive', file('delete', { relpaths: ['b'], recursive: 'True' }))
    await like('POST /folder/file/delete-async', file('delete-async', { relpaths: ['a'], recursive: true }))
    await like('delete-async bad', file('delete-async', { relpaths: 'a', recursive: true }))

    const clone = {
      src_volume: 'volume1',
      src_vfid: vfid,
      dst_volume: null,
      dst_vfid: `user:${user}/437c121184d943499cd4c62b8a4dc68d`,
    }
    const cloned = await like('POST /folder/clone', call('POST', '/folder/clone', clone))
    t.equal((await ended(server, cloned.json.bgtask_id)).state, 'succeeded')
    const elsewhere = { ...clone, dst_volume: 'volume2', dst_vfid: `user:${user}/437c121184d943499cd4c62b8a4dc68e` }
    const streamed = await like('clone cross', call('POST', '/folder/clone', elsewhere))
    t.equal((await ended(server, streamed.json.bgtask_id)).state, 'succeeded')
    t.equal(
      (await file('fetch', { relpath: 'empty.txt' }, { volume: 'volume2', vfid: elsewhere.dst_vfid })).status,
      200,
    )

    const gone = { ...folder, vfid: clone.dst_vfid }
    const deleted = await like('POST /folder/delete', call('POST', '/folder/delete', gone))
    t.equal((await ended(server, deleted.json.bgtask_id)).state, 'succeeded')
    t.equal((await call('GET', '/folder/usage', gone)).status, 404)
    const again = await like('delete again', call('POST', '/folder/delete', gone))
    t.equal(
      (await ended(server, again.json.bgtask_id)).state,
      'succeeded',
      'the manager waits for the end of that one too',
    )
    await like('delete bad volume', call('POST', '/folder/delete', { ...gone, volume: 'nope' }))
    await like('GET /folder/usage (2)', call('GET', '/folder/usage', { ...folder, volume: 'noop' }))
    await like('POST /folder/file/list (6)', file('list', { relpath: '.' }, { ...folder, volume: 'noop' }))
  })

  await t.test("by its manager's own HTTP library", needing('python3-aiohttp'), async (t) => {
    const scope = `project:${randomUUID()}`
    const [one, clone] = [randomUUID(), randomUUID()].map((id) => `${scope}/${id.replaceAll('-', '')}`)
    const script = fileURLToPath(new URL('../backend-ai-manager.py', import.meta.url))
    const { stdout } = await promisify(execFile)(python, [script, base, backendAiSecret, 'volume1', one!, clone!])
    const answers: Answer[] = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    const failed = answers.filter(({ status }) => status >= 400).map(({ call, status }) => [call, status])
    t.same(failed, [
      ['GET volume/performance-metric', 400],
      ['GET quota-scope', 404],
      ['POST folder/file/fetch', 404],
      ['GET volume/quota', 400],
      ['PATCH volume/quota', 400],
    ])
    const of = (name: string) => answers.findLast(({ call }) => call === name)
    t.match(of('GET quota-scope'), { json: { used_bytes: 0, limit_bytes: 2_097_152 } })
    t.match(of('GET folder/mount').json.path, new RegExp(`^/.*/${toUuid(one!)}$`))
    t.same(
      of('POST folder/file/list').json.items.map((item: Answer) => [item.name, item.type]),
      [
        ['data', 'DIRECTORY'],
        ['models', 'DIRECTORY'],
      ],
    )
    for (const name of ['POST folder/file/delete-async', 'POST folder/clone', 'POST folder/delete']) {
      t.equal((await ended(server, of(name).json.bgtask_id)).state, 'succeeded', name)
    }
    t.equal(answers.length, 26)
  })
})

function toUuid(vfid: string): string {
  return vfid.slice(-32).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
