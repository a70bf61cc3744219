import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { server } from '../shared-server.ts'

t.test('symlinks are described and never followed out', async (t) => {
  const files = await server.files()
  await files.upload({ 'dir/a.txt': 'inside' })
  const outside = join(server.dataDir, 'outside')
  await mkdir(outside)
  await writeFile(join(outside, 'secret'), 'SECRET')
  const links = {
    in: 'dir',
    out: outside,
    'out-file': join(outside, 'secret'),
    up: '../..',
    loop: 'loop',
    broken: 'none',
  }
  for (const [name, target] of Object.entries(links)) await symlink(target, join(files.mount, name))

  const names = Object.keys(links)
  t.same(await files.ndjson('recursive=true'), [...names, 'dir/', 'dir/a.txt'].toSorted())
  for (const [name, target] of Object.entries(links)) {
    t.match(await files.stat(name), { path: name, type: 'symlink', size: target.length })
  }
  t.same(await files.keys('path=in'), [['in/a.txt']], 'one that stays inside may be gone through')
  const content = (path: string) => server.manager('GET', `/folders/${files.folder}/content/${path}`)
  t.equal(await (await content('in/a.txt')).text(), 'inside')
  t.match(await (await content('loop')).json(), { status: 409, code: 'invalid_operation' })
  t.match(await (await content('broken')).json(), { status: 404, code: 'entry_not_found' })

  const forbidden = { status: 403, code: 'outside_vfolder' }
  t.match(await (await content('out-file')).json(), forbidden)
  t.match(await (await content('out/secret')).json(), forbidden)
  t.match(await files.stat('out/secret'), forbidden)
  t.match(await (await server.manager('GET', `/folders/${files.folder}/files?path=out`)).json(), forbidden)
  for (const [operation, body] of [
    ['mkdir', { path: 'out/new' }],
    ['mkdir', { path: 'out/new/deep' }],
    ['move', { from: 'dir/a.txt', to: 'out/a.txt' }],
    ['move', { from: 'out/secret', to: 'stolen' }],
    ['copy', { from: 'out/secret', to: 'stolen' }],
    ['delete', { paths: ['out/secret'] }],
  ] as const) {
    t.match((await files.post(operation, body))[1], forbidden, `${operation} ${JSON.stringify(body)}`)
  }
  await t.rejects(files.upload({ 'out/a.txt': 'a' }), /outside_vfolder/)

  await t.test('a directory is not copied into itself by a detour', async (t) => {
    for (const [from, to] of [
      ['dir', 'in/copy'],
      ['in/sub', 'dir/sub/copy'],
    ]) {
      await mkdir(join(files.mount, 'dir/sub'), { recursive: true })
      const [, problem] = await files.post('copy', { from, to })
      t.match(problem, { status: 409, code: 'invalid_operation', detail: 'in is a symlink' })
    }
    await files.post('delete', { paths: ['dir/sub'] })
    t.same(await readdir(join(files.mount, 'dir')), ['a.txt'])
  })

  await t.test('a write replaces the symlink itself, a deletion takes only it', async (t) => {
    await files.upload({ 'out-file': 'mine' })
    t.match(await files.stat('out-file'), { type: 'file', size: 4 })
    t.match(await files.post('delete', { paths: ['out', 'up', 'in'], recursive: true }), [
      200,
      { deleted: ['out', 'up', 'in'] },
    ])
    t.same([await readFile(join(outside, 'secret'), 'utf8'), await readdir(outside)], ['SECRET', ['secret']])
    t.same(await readdir(join(files.mount, 'dir')), ['a.txt'])
  })
})
