import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Answer } from '../server.ts'
import { server } from '../shared-server.ts'

t.test('signing archives', async (t) => {
  const { folder, mount } = await server.files()
  await server.upload(folder, { 'a.txt': 'a', 'b.txt': 'b', 'dir/c.txt': 'c', 'dir/d.txt': 'd' })
  const sign = (body: object) =>
    server.manager('POST', `/folders/${folder}/signed-urls`, { operation: 'archive', ...body })
  const problem = async (url: string): Promise<Answer> => (await fetch(url)).json()

  await t.test('one URL', async (t) => {
    const response = await sign({ paths: ['dir/c.txt', 'dir/d.txt'], archive: 'tar.zst', expiresIn: 60 })
    t.equal(response.status, 201)
    const { signedUrls }: Answer = await response.json()
    t.match(signedUrls, [{ path: 'dir', method: 'GET' }])
    t.equal(signedUrls.length, 1)
    t.match(signedUrls[0].url, `${server.url}/download/${folder}/dir?archive=tar.zst&token=`)
    const { signedUrls: root }: Answer = await (await sign({ paths: [] })).json()
    t.match(root, [{ path: '', url: `${server.url}/download/${folder}/?archive=zip&token=` }])
  })

  await t.test('a token permits what it says', async (t) => {
    const notForThis = { status: 403, code: 'token_not_for_this' }
    const archive = await server.signArchive(folder, ['dir'])
    t.match(await problem(archive.replace('archive=zip&', '')), {
      ...notForThis,
      detail: /permits archive, not download/,
    })
    t.match(await problem(archive.replace('/dir?', '/dir/c.txt?')), notForThis, 'a part of it')
    t.match(await problem(archive.replace('/dir?', '/?')), notForThis, 'more than it')
    t.match(await problem(archive.replace('/dir?', '/dir/c.txt?').replace('archive=zip&', '')), notForThis)
    for (const path of ['dir', 'a.txt']) {
      const download = await server.sign(folder, path)
      t.match(await problem(`${download}&archive=zip`), { ...notForThis, detail: /permits download, not archive/ })
    }
    const other = await server.createFolder()
    t.match(await problem(archive.replace(folder, other)), notForThis, 'another vfolder')
    const token = /token=(.*)/.exec(archive)![1]!
    t.match(await problem(archive.replace(token, `${token}A`)), { status: 401, code: 'token_invalid' })
    t.match(await problem(archive.replace(`&token=${token}`, '')), { status: 401, code: 'token_required' })
  })

  await t.test('what the names are relative to', async (t) => {
    const namesOf = async (paths: string[], base?: string) => {
      const url = await server.signArchive(folder, paths, { archive: 'tar', ...(base !== undefined && { base }) })
      const bytes = Buffer.from(await (await fetch(url)).arrayBuffer())
      const { stdout } = spawnSync('tar', ['-t'], { input: bytes })
      return stdout.toString().split('\n').filter(Boolean)
    }
    t.same(await namesOf(['dir/c.txt']), ['c.txt'])
    t.same(await namesOf(['dir/c.txt', 'dir/d.txt'], ''), ['dir/c.txt', 'dir/d.txt'])
    t.same(await namesOf(['dir'], 'dir'), ['c.txt', 'd.txt'])
    t.same(await namesOf([], ''), ['a.txt', 'b.txt', 'dir/', 'dir/c.txt', 'dir/d.txt'])
    for (const body of [
      { paths: ['a.txt', 'dir/c.txt'], base: 'dir' },
      { paths: [], base: 'dir' },
      { operation: 'download', paths: ['a.txt'], base: '' },
    ]) {
      t.match(await (await sign(body)).json(), { status: 400, field: 'base' }, JSON.stringify(body))
    }
    t.match(await problem(await server.signArchive(folder, ['a.txt'], { base: 'a.txt' })), {
      status: 409,
      code: 'not_a_directory',
    })
  })

  await t.test('a query that is none', async (t) => {
    const url = await server.signArchive(folder)
    const refused = { status: 400, code: 'validation_failed' }
    t.match(await problem(url.replace('archive=zip', 'archive=rar')), {
      ...refused,
      field: 'archive',
      rule: 'must be one of zip, tar, tar.gz, tar.zst',
    })
    t.match(await problem(`${url}&compression=best`), { ...refused, field: 'compression' })
    t.match(await problem(`${url.replace('zip', 'tar')}&compression=deflate`), { ...refused, field: 'compression' })
  })

  await t.test('bounds', async (t) => {
    const cases: [field: string, body: object][] = [
      ['paths', {}],
      ['paths', { paths: Array(1001).fill('a') }],
      ['paths.0', { paths: [''] }],
      ['archive', { paths: [], archive: 'rar' }],
      ['archive', { operation: 'download', paths: ['a'], archive: 'zip' }],
      ['disposition', { paths: ['dir'], disposition: 'inline' }],
      ['paths', { operation: 'download', paths: [] }],
    ]
    for (const [field, body] of cases)
      t.match(await (await sign(body)).json(), { status: 400, field }, JSON.stringify(body).slice(0, 80))
  })

  await t.test('a thousand paths', async (t) => {
    const names = Array.from({ length: 1000 }, (_, index) => `IMG_2026_${String(index).padStart(4, '0')}.jpg`)
    for (const name of names) await writeFile(join(mount, 'dir', name), name)
    const url = await server.signArchive(
      folder,
      names.map((name) => `dir/${name}`),
      { archive: 'tar' },
    )
    t.ok(url.length < 8000, `${url.length} bytes`)
    const bytes = await (await fetch(url)).arrayBuffer()
    t.equal(bytes.byteLength, 1000 * 1024 + 1024)
    t.match(await problem(url.replace('token=', 'token=x')), { status: 401, code: 'token_invalid' })
    t.equal((await fetch(url.replace('/dir?', '/?'))).status, 403)
  })

  await t.test('names that do not fit', async (t) => {
    const paths = Array.from({ length: 1000 }, () => crypto.randomUUID())
    const answer: Answer = await (await sign({ paths })).json()
    t.match(answer, { status: 400, code: 'selection_too_large', maxUrlBytes: 8000 })
    t.ok(answer.urlBytes > 8000)
  })
})
