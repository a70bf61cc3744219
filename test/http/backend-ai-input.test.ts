import { randomUUID } from 'node:crypto'
import { lstat, readlink, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { asBackendAi, startBackendAi } from '../backend-ai.ts'
import { type Answer, ended } from '../server.ts'

const plugin = fileURLToPath(new URL('../plain-backend.ts', import.meta.url))
const scope = `user:${randomUUID()}`
const folder = { volume: 'volume1', vfid: `${scope}/${randomUUID().replaceAll('-', '')}` }
const subpathRefused = [400, { error_code: 'vfolder_access_invalid-parameters', title: 'Invalid Subpath' }]

t.test("what Backend.AI's manager may send", async (t) => {
  const server = await startBackendAi(t, { BACKEND_PLUGINS: plugin, UPLOAD_MAX_BYTES: String(2 ** 20) })
  const call = (method: string, path: string, body?: unknown) => asBackendAi(server, method, path, body)
  const file = (operation: string, more: object) => call('POST', `/folder/file/${operation}`, { ...folder, ...more })
  const names = async (relpath = '.') => {
    const { items } = (await file('list', { relpath })).json
    return items.map((item: Answer) => item.name)
  }
  t.equal((await call('POST', '/folder/create', folder)).status, 204)
  const mount = (await call('GET', '/folder/mount', { ...folder, subpath: './a/..' })).json.path
  const id = mount.slice(-36)
  await server.upload(id, { 'dir/a.txt': 'a', 'b.txt': 'bb' })

  await t.test('a path is put right, and never leaves the vfolder', async (t) => {
    for (const path of ['b.txt', './b.txt', 'dir/../b.txt', './/b.txt', 'dir/./.././b.txt', 'b.txt/']) {
      t.equal((await file('fetch', { relpath: path })).text, 'bb', path)
    }
    for (const path of ['', '.', './', 'dir/..', './/.']) t.same(await names(path), ['b.txt', 'dir'], path)
    const outside = ['..', '../x', 'dir/../../x', './../x', '/etc/passwd', '//b.txt', 'a\0b', `${'n'.repeat(256)}`]
    for (const path of outside) {
      const calls: [operation: string, body: object][] = [
        ['list', { relpath: path }],
        ['rename', { relpath: path, new_name: 'x' }],
        ['move', { src_relpath: path, dst_relpath: 'x' }],
        ['move', { src_relpath: 'b.txt', dst_relpath: path }],
        ['delete', { relpaths: ['b.txt', path], recursive: true }],
        ['delete-async', { relpaths: ['b.txt', path], recursive: true }],
        ['fetch', { relpath: path }],
        ['download', { relpath: path }],
        ['upload', { relpath: path, size: 1 }],
        ['archive-download-token', { virtual_folder_id: folder.vfid, files: ['b.txt', path] }],
      ]
      for (const [operation, body] of calls) {
        const { status, json } = await file(operation, body)
        t.match([status, json], subpathRefused, `${operation} ${JSON.stringify(body).slice(0, 80)}`)
      }
      const { status, json } = await file('mkdir', { relpath: [path] })
      t.match([status, json.results], [422, { success: [], failed: [{ item: path }] }])
    }
    for (const name of ['', '.', '..', 'a/b', '/a', '../a', 'a/']) {
      const { status, json } = await file('rename', { relpath: 'b.txt', new_name: name })
      t.match([status, json.data], [400, { new_name: /^must/ }], `the new name ${name}`)
    }
    for (const [name, rule] of [
      ['..', /\.\. segment/],
      ['a\0b', /NUL/],
      ['n'.repeat(256), /255 bytes/],
      ['a/b', /slash/],
    ] as const) {
      t.match((await file('rename', { relpath: 'b.txt', new_name: name })).json.data, { new_name: rule })
    }
    const archive = { virtual_folder_id: folder.vfid, files: ['b.txt'] }
    for (const filename of ['', ' ', '\t', '.', '..', 'a/b', 'a\\b', 'a\nb', 'n'.repeat(256)]) {
      const { status, json } = await file('archive-download-token', { ...archive, filename })
      t.match([status, json.data], [400, { filename: /^must/ }], `the archive name ${JSON.stringify(filename)}`)
    }
    for (const filename of ['ü "1".zip', '😀', '...', null]) {
      t.equal((await file('archive-download-token', { ...archive, filename })).status, 200)
    }
    for (const relpath of ['.', '']) {
      t.match(
        (await file('delete', { relpaths: [relpath], recursive: true })).status,
        400,
        'nor goes the vfolder itself',
      )
    }
    t.same(await names(), ['b.txt', 'dir'], 'and nothing has changed')
  })

  await t.test('numbers and flags', async (t) => {
    for (const size of [0, '0', 5, '5', 2 ** 20]) t.equal((await file('upload', { relpath: 'x', size })).status, 200)
    for (const size of [
      -1,
      '-1',
      1.5,
      '1.5',
      '1e3',
      '',
      ' 5',
      '0x5',
      true,
      null,
      [5],
      2 ** 20 + 1,
      2 ** 60,
      '9'.repeat(17),
    ]) {
      const { status, json } = await file('upload', { relpath: 'x', size })
      t.match([status, json.data], [400, { size: /^must/ }], `the size ${JSON.stringify(size)}`)
    }
    for (const flag of ['perhaps', '', 1, null]) {
      const { status, json } = await file('mkdir', { relpath: 'x', exist_ok: flag })
      t.match([status, json.data], [400, { exist_ok: /^must/ }], `the flag ${JSON.stringify(flag)}`)
    }
    for (const flag of [true, 'true', 'True', '1', 'yes']) {
      t.equal((await file('mkdir', { relpath: 'dir', exist_ok: flag })).status, 200)
    }
    for (const limit of [-1, '-5', 'all', 0.5, true]) {
      const options = { limit_bytes: limit }
      const { status, json } = await call('PATCH', '/quota-scope', { volume: 'volume1', qsid: scope, options })
      t.match([status, Object.keys(json.data)], [400, [/^options/]], `the limit ${limit}`)
    }
    const paths = Array.from({ length: 51 }, (_, at) => `many/${at}`)
    t.match((await file('mkdir', { relpath: paths })).json.data, { relpath: /50/ })
    t.equal((await file('mkdir', { relpath: paths.slice(1) })).json.results.success.length, 50)
    t.equal((await file('mkdir', { relpath: 'no/parent', parents: false })).status, 422)
    t.equal((await file('mkdir', { relpath: 'many/new', parents: 'no' })).status, 200)
    t.equal((await file('delete', { relpaths: ['many'], recursive: true })).status, 200)
  })

  await t.test('what is not there', async (t) => {
    const missing = { ...folder, vfid: `${scope}/${'0'.repeat(32)}` }
    const notFound = [404, { error_code: 'vfolder_read_not-found' }]
    const badVolume = [400, { title: 'Invalid Volume' }]
    const reads: [method: string, path: string, more: object][] = [
      ['GET', '/folder/usage', {}],
      ['GET', '/folder/used-bytes', {}],
      ['POST', '/folder/file/list', { relpath: '.' }],
      ['POST', '/folder/file/mkdir', { relpath: 'x' }],
      ['POST', '/folder/file/rename', { relpath: 'x', new_name: 'y' }],
      ['POST', '/folder/file/move', { src_relpath: 'x', dst_relpath: 'y' }],
      ['POST', '/folder/file/delete', { relpaths: ['x'], recursive: false }],
      ['POST', '/folder/file/delete-async', { relpaths: ['x'], recursive: false }],
      ['POST', '/folder/file/fetch', { relpath: 'x' }],
      ['POST', '/folder/file/download', { relpath: 'x' }],
      ['POST', '/folder/file/upload', { relpath: 'x', size: 1 }],
    ]
    for (const [method, path, more] of reads) {
      const { status, json } = await call(method, path, { ...missing, ...more })
      t.match([status, json], notFound, `${path} of a vfolder`)
      const elsewhere = await call(method, path, { ...folder, volume: 'nowhere', ...more })
      t.match([elsewhere.status, elsewhere.json], badVolume, `${path} of a volume`)
    }
    const nobody = { volume: 'volume1', qsid: `project:${randomUUID()}` }
    for (const [method, path] of [
      ['GET', '/quota-scope'],
      ['DELETE', '/quota-scope/quota'],
    ] as const) {
      const { status, json } = await call(method, path, nobody)
      t.match([status, json], [404, { error_code: 'quota-scope_read_not-found' }], `${method} ${path}`)
    }
    for (const qsid of ['', 'user', 'user:', 'user:7', `group:${randomUUID()}`, `${scope}/x`, 5]) {
      const { status, json } = await call('GET', '/quota-scope', { volume: 'volume1', qsid })
      t.match([status, json.data], [400, { qsid: /^must/ }], `the scope ${qsid}`)
    }
    t.equal((await call('POST', '/quota-scope', { ...nobody, options: { limit_bytes: 7 } })).status, 204)
    t.same((await call('GET', '/quota-scope', nobody)).json, { used_bytes: 0, limit_bytes: 7 })
    t.equal((await call('POST', '/folder/create', '{"volume": "volume1", "volume": "volume2"}')).status, 400)
  })

  await t.test('quotas hold, and are taken away', async (t) => {
    const limit = (limit_bytes: number) =>
      call('PATCH', '/quota-scope', { volume: 'volume1', qsid: scope, options: { limit_bytes } })
    t.equal((await limit(10)).status, 204)
    t.same((await call('GET', '/quota-scope', { volume: 'volume1', qsid: scope })).json, {
      used_bytes: 3,
      limit_bytes: 10,
    })
    const refused = await file('upload', { relpath: 'large', size: 11 })
    t.match([refused.status, refused.json], [507, { error_code: 'vfolder_access_quota-exceeded' }])
    t.equal((await file('upload', { relpath: 'fits', size: 10 })).status, 200)
    t.equal((await call('DELETE', '/quota-scope/quota', { volume: 'volume1', qsid: scope })).status, 204)
    t.equal((await file('upload', { relpath: 'large', size: 11 })).status, 200)
    t.same((await call('GET', '/folder/usage', folder)).json, { file_count: 2, used_bytes: 3 })
    const again = { ...folder, options: { initial_max_size_for_quota_scope: 1 } }
    t.equal((await call('POST', '/folder/create', again)).status, 204, 'a scope that is there keeps its limit')
    t.match((await call('GET', '/quota-scope', { volume: 'volume1', qsid: scope })).json, { limit_bytes: null })
    const other = { ...folder, vfid: folder.vfid.replace(/user:[^/]*/, `user:${randomUUID()}`) }
    t.equal((await call('POST', '/folder/create', other)).status, 409, 'the ID is taken in another scope')
  })

  await t.test('a limit that is missing is refused, and takes none away', async (t) => {
    const qsid = `project:${randomUUID()}`
    const options = { limit_bytes: 5000 }
    t.equal((await call('PATCH', '/quota-scope', { volume: 'volume1', qsid, options })).status, 204)
    for (const bad of [{}, { options: null }, { options: {} }, { options: { limit: 1 } }]) {
      const { status, json } = await call('PATCH', '/quota-scope', { volume: 'volume1', qsid, ...bad })
      t.match([status, Object.keys(json.data)], [400, [/^options/]], JSON.stringify(bad))
    }
    const nothing = { options: { limit_bytes: null } }
    t.equal((await call('PATCH', '/quota-scope', { volume: 'volume1', qsid, ...nothing })).status, 400)
    t.match((await call('GET', '/quota-scope', { volume: 'volume1', qsid })).json, options)
    const other = { volume: 'volume1', qsid: `project:${randomUUID()}` }
    t.equal((await call('POST', '/quota-scope', { ...other, options: {} })).status, 400)
    t.equal((await call('POST', '/quota-scope', { ...other, options: null })).status, 204, 'one without a limit')
  })

  await t.test('a scope that nobody has limited is there, once vfolders are in it', async (t) => {
    for (const method of ['GET', 'DELETE']) {
      const qsid = `user:${randomUUID()}`
      const folder = await server.createFolder({ volume: 'volume1', quotaScope: qsid })
      await server.upload(folder, { file: 'content' })
      const path = method === 'GET' ? '/quota-scope' : '/quota-scope/quota'
      const { status, json } = await call(method, path, { volume: 'volume1', qsid })
      t.equal(status, method === 'GET' ? 200 : 204)
      if (method === 'GET') t.same(json, { used_bytes: 7, limit_bytes: null })
      const options = { limit_bytes: 9 }
      t.equal((await call('PATCH', '/quota-scope', { volume: 'volume1', qsid, options })).status, 204)
      t.same((await call('GET', '/quota-scope', { volume: 'volume1', qsid })).json, { used_bytes: 7, limit_bytes: 9 })
    }
  })

  await t.test('entries move as the manager knows it, and links are links', async (t) => {
    await writeFile(join(mount, 'target'), 'kept')
    await symlink('target', join(mount, 'link'))
    await symlink('dir', join(mount, 'to-dir'))
    await symlink('gone', join(mount, 'dangling'))
    const items = (await file('list', { relpath: '.' })).json.items
    const changed = (await lstat(join(mount, 'target'))).ctime.toISOString().replace('Z', '000+00:00')
    t.equal(items.find((item: Answer) => item.name === 'target').stat.created, changed)
    t.match(
      items.find((item: Answer) => item.name === 'link'),
      { type: 'SYMLINK', symlink_target: 'target', stat: { mode: 0o120777, size: 6 } },
    )
    t.equal((await file('move', { src_relpath: 'b.txt', dst_relpath: 'to-dir' })).status, 204)
    t.same(await names('dir'), ['a.txt', 'b.txt'], 'into the directory that a link leads to')
    await server.upload(id, { 'b.txt': 'new' })
    const taken = await file('move', { src_relpath: 'b.txt', dst_relpath: 'dir' })
    t.match([taken.status, taken.json], [400, { errno: 17, paths: ['b.txt'] }])
    t.equal((await file('move', { src_relpath: 'dir/b.txt', dst_relpath: '.' })).status, 400)
    t.equal((await file('rename', { relpath: 'b.txt', new_name: 'b.txt' })).status, 204)
    t.match((await file('move', { src_relpath: 'dir', dst_relpath: 'dir/below' })).status, 400)
    t.equal((await file('delete', { relpaths: ['link', 'dangling', 'dir'], recursive: 'false' })).status, 200)
    t.equal((await file('fetch', { relpath: 'target' })).text, 'kept')
    t.equal(await readlink(join(mount, 'to-dir')), 'dir')
    t.ok((await lstat(join(mount, 'dir'))).isDirectory(), 'a directory stays without recursive')
    t.same(await names(), ['b.txt', 'dir', 'target', 'to-dir'])
    const { status, json } = await file('delete-async', { relpaths: ['dir', 'gone', 'to-dir'], recursive: 'true' })
    t.equal(status, 202)
    t.match(await ended(server, json.bgtask_id), { kind: 'delete-entries', state: 'succeeded' })
    t.same(await names(), ['b.txt', 'target'])
  })

  await t.test('what is below a file is not there, and no error of a deletion', async (t) => {
    for (const recursive of [false, true]) {
      await server.upload(id, { keep: 'k', file: 'f' })
      const { status, json } = await file('delete', { relpaths: ['keep', 'file/x', 'file/y/z'], recursive })
      t.match([status, json], [200, { status: 'ok' }])
      t.notOk((await names()).includes('keep'))
      await server.upload(id, { keep: 'k' })
      const background = await file('delete-async', { relpaths: ['file/x', 'keep'], recursive })
      t.match(await ended(server, background.json.bgtask_id), { state: 'succeeded' })
      t.notOk((await names()).includes('keep'))
    }
    const own = await server.ask('POST', `/folders/${id}/files/delete`, { paths: ['file/x', 'file'] })
    t.same(own, { deleted: ['file'], missing: ['file/x'] })
  })

  await t.test('the mode of a new vfolder', async (t) => {
    const made = { ...folder, vfid: `${scope}/${'1'.repeat(32)}` }
    t.equal((await call('POST', '/folder/create', { ...made, mode: 0o775 })).status, 204)
    const { path } = (await call('GET', '/folder/mount', made)).json
    t.equal((await lstat(path)).mode, 0o040775)
    t.equal((await lstat(mount)).mode, 0o040755)
    for (const mode of [0o675, 0o1775, '0775', 1.5]) {
      t.equal((await call('POST', '/folder/create', { ...made, mode })).status, 400, `${mode}`)
    }
  })

  await t.test('a volume that is no directory of a host', async (t) => {
    const remote = { ...folder, volume: 'remote', vfid: `${scope}/${'2'.repeat(32)}` }
    const { volumes } = (await call('GET', '/volumes')).json
    const capabilities = ['vfolder', 'quota', 'fast-size', 'fast-scan']
    t.match(volumes.at(-1), { name: 'remote', backend: 'remote', path: '', capabilities })
    t.same((await call('GET', '/folder/fs-usage', remote)).json, { capacity_bytes: 0, used_bytes: 0 })
    t.equal((await call('POST', '/folder/create', remote)).status, 204)
    const { status, json } = await call('GET', '/folder/mount', remote)
    t.match([status, json], [400, { type: /unsupported-operation$/, error_code: 'vfolder_access_unsupported' }])
    t.equal((await call('GET', '/folder/usage', remote)).status, 200)
  })

  await t.test('the volume noop', async (t) => {
    const noop = { volume: 'noop', vfid: folder.vfid }
    const answers: [method: string, path: string, more: object, status: number, json?: unknown][] = [
      ['GET', '/folder/fs-usage', {}, 200, { capacity_bytes: 0, used_bytes: 0 }],
      ['POST', '/folder/create', {}, 204],
      [
        'POST',
        '/folder/file/mkdir',
        { relpath: 'a' },
        200,
        { results: { success: [{ msg: null, item: 'a' }], failed: [] } },
      ],
      ['POST', '/folder/file/rename', { relpath: 'a', new_name: 'b' }, 204],
      ['PATCH', '/quota-scope', { qsid: scope, options: { limit_bytes: 5 } }, 204],
      ['POST', '/folder/file/delete', { relpaths: [] }, 200, { status: 'ok' }],
    ]
    for (const [method, path, more, status, json] of answers) {
      const answer = await call(method, path, { ...noop, ...more })
      t.same([answer.status, answer.json], [status, json], `${method} ${path}`)
    }
    const { status, json } = await call('POST', '/folder/delete', noop)
    t.equal(status, 202)
    t.equal((await ended(server, json.bgtask_id)).state, 'succeeded')
    t.equal((await call('GET', '/folder/usage', folder)).status, 200, 'a vfolder of that name elsewhere stays')
    const entries = await call('POST', '/folder/file/delete-async', { ...noop, relpaths: ['a'], recursive: true })
    t.equal(entries.status, 202)
    t.match(await ended(server, entries.json.bgtask_id), { kind: 'delete-entries', state: 'succeeded' })
  })
  t.same(
    server.rawLines().filter((line) => !line.startsWith('{')),
    [],
    'all that is said is in the log',
  )
})
