import { spawnSync } from 'node:child_process'
import { utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { comparing, send } from '../backend-ai.ts'
import { jwt, startForClients } from '../backend-ai-clients.ts'
import type { Answer } from '../server.ts'
import { needing } from '../tools.ts'

const problem = async (url: string, options?: RequestInit): Promise<Answer> => {
  const response = await fetch(url, options)
  return { status: response.status, mediaType: response.headers.get('content-type'), ...Object(await response.json()) }
}

async function namesIn(url: string): Promise<string[]> {
  const zip = Buffer.from(await (await fetch(url)).arrayBuffer())
  return spawnSync('bsdtar', ['-tf', '-'], { input: zip }).stdout.toString().split('\n').filter(Boolean)
}

t.test('what clients of Backend.AI download', async (t) => {
  const vfolder = await startForClients(t)
  const { server, folder, mount } = vfolder
  await server.upload(folder, { 'a b.txt': 'hello world', 'dir/c.txt': 'c', 'dir/deep/ü.txt': 'u' })

  await t.test('a file', async (t) => {
    const url = vfolder.download('./a b.txt')
    const response = await fetch(url, { headers: { origin: 'http://ui', 'x-backendai-requestid': 'theirs-1' } })
    t.equal(response.status, 200)
    t.equal(await response.text(), 'hello world')
    const { headers } = response
    t.equal(headers.get('content-length'), '11')
    t.equal(headers.get('accept-ranges'), 'bytes')
    t.match(headers.get('content-disposition'), 'attachment; filename="a b.txt"')
    t.equal(headers.get('access-control-allow-origin'), '*')
    t.equal(headers.get('x-backendai-requestid'), 'theirs-1')
    t.match(headers.get('access-control-expose-headers'), /x-backendai-requestid/i, 'a page can read it')
    const head = await fetch(url, { method: 'HEAD' })
    t.equal(head.status, 200)
    t.equal(head.headers.get('content-length'), '11')
    t.equal((await fetch(`${url}&no_cache=true`)).headers.get('cache-control'), 'no-store')
    t.equal((await fetch(url, { headers: { 'if-none-match': headers.get('etag')! } })).status, 304)
    t.equal(await (await fetch(vfolder.download('c.txt', '&dst_dir=dir&archive=false'))).text(), 'c')
    t.equal(await (await fetch(vfolder.download('x/../dir//c.txt', '&dst_dir='))).text(), 'c')
  })

  await t.test('parts of it', async (t) => {
    const url = vfolder.download('a b.txt')
    const ranges = await fetch(url, { headers: { range: 'bytes=0-1,6-7' } })
    t.equal(ranges.status, 206)
    t.match(await ranges.text(), /he\r\n.*wo\r\n/s)
    const unsatisfiable = await problem(url, { headers: { range: 'bytes=99-' } })
    t.match(unsatisfiable, { status: 416, mediaType: 'application/problem+json' })
  })

  await t.test('archives', needing('bsdtar'), async (t) => {
    t.same(await namesIn(vfolder.download('dir', '&archive=true')), ['c.txt', 'deep/', 'deep/ü.txt'])
    t.same(await namesIn(vfolder.download('.', '&archive=true')), [
      'a b.txt',
      'dir/',
      'dir/c.txt',
      'dir/deep/',
      'dir/deep/ü.txt',
    ])
    const several = vfolder.archive(['./dir/c.txt', 'dir/deep'], 'x y')
    t.same(await namesIn(several), ['dir/c.txt', 'dir/deep/', 'dir/deep/ü.txt'])
    t.match((await fetch(several, { method: 'HEAD' })).headers.get('content-disposition'), /filename="x y"$/)
    t.match((await fetch(vfolder.archive(['dir']))).headers.get('content-disposition'), /filename="archive.zip"$/)
    t.equal(await (await fetch(vfolder.download('a b.txt', '&archive=true'))).text(), 'hello world', 'of a file')
  })

  await t.test('what is not there', async (t) => {
    for (const url of [
      vfolder.download('nope'),
      vfolder.download('c.txt', '&dst_dir=nope'),
      vfolder.archive(['nope']),
    ]) {
      t.match(await problem(url), { status: 404, mediaType: 'application/problem+json', title: 'File not found' }, url)
    }
    const elsewhere = { volume: 'other' }
    t.match(await problem(vfolder.download('a b.txt', '', elsewhere)), { status: 400, error_code: /^vfolder_/ })
    const scope = { vfid: vfolder.vfid.replace('user', 'project') }
    t.match(await problem(vfolder.download('a b.txt', '', scope)), { status: 404 }, 'another scope')
    t.match(await problem(vfolder.download('dir')), { status: 400, msg: 'The file is not a regular file.' })
    t.match(await problem(vfolder.download('.')), { status: 400 })
  })

  await t.test('what leads out of the vfolder', async (t) => {
    await writeFile(join(mount, '../secret'), 'secret')
    for (const directory of ['..', 'dir/../..', '/etc', '%2e%2e', '../..']) {
      const url = vfolder.download('secret', `&dst_dir=${directory}`)
      t.match(await problem(url), { status: 400, title: 'Invalid Subpath' }, directory)
    }
    t.match(await problem(vfolder.archive(['../secret'])), { status: 400, title: 'Invalid Subpath' })
  })

  await t.test('tokens', async (t) => {
    const refused = { status: 400, title: 'Invalid API parameters' }
    const call = `${server.url}/backend-ai/download`
    t.match(await problem(call), { ...refused, data: { token: 'is required' } })
    t.match(await problem(`${call}?token=`), { ...refused, data: { token: 'is required' } })
    t.match(await problem(`${call}?token=nonsense`), { ...refused, data: { token: /not signed here/ } })
    t.match(await problem(`${vfolder.download('a b.txt')}x`), refused, 'altered')
    const claims = { op: 'download', vfid: vfolder.vfid, relpath: 'a b.txt' }
    t.match(await problem(vfolder.url('download', claims, '', 'another key')), refused)
    t.match(await problem(vfolder.download('a b.txt', '', { exp: 1 })), { ...refused, data: { token: 'has expired' } })
    const upload = { op: 'upload', size: 1, session: '0'.repeat(32) }
    t.match(await problem(vfolder.download('a b.txt', '', upload)), { ...refused, data: { token: /something else/ } })
    t.match(await problem(vfolder.archive(['dir']).replace('download-archive', 'download')), refused)
    t.match(await problem(`${call}?token=${await server.sign(folder, 'dir/c.txt')}`), refused, 'of a signed URL')
    for (const exp of [-1e17, 1e17, -1]) {
      t.match(
        await problem(vfolder.download('a b.txt', '', { exp })),
        { ...refused, data: { token: /./ } },
        `exp ${exp}`,
      )
    }
    for (const name of ['.', '..', ' ', 'a/b']) {
      t.match(await problem(vfolder.archive(['dir'], name)), { ...refused, data: { token: /./ } }, `the name ${name}`)
    }
    const unsigned = jwt(claims).split('.')
    unsigned[0] = Buffer.from('{"alg":"none"}').toString('base64url')
    t.match(await problem(`${call}?token=${unsigned[0]}.${unsigned[1]}.`), refused, 'of no algorithm')
  })

  await t.test('methods', async (t) => {
    t.match(await problem(vfolder.download('a b.txt'), { method: 'POST' }), { status: 405 })
    t.match(await problem(vfolder.upload('a', 1), { method: 'POST' }), { status: 405 })
    const preflight = { origin: 'http://ui', 'access-control-request-method': 'PATCH' }
    const asked = { 'access-control-request-headers': 'Tus-Resumable,Upload-Offset,Content-Type' }
    const { status, headers } = await fetch(vfolder.upload('a', 1), {
      method: 'OPTIONS',
      headers: { ...preflight, ...asked },
    })
    t.equal(status, 204)
    t.equal(headers.get('tus-version'), '1.0.0')
    t.equal(headers.get('tus-extension'), null)
    t.match(headers.get('access-control-allow-methods'), /PATCH/)
    t.match(headers.get('access-control-allow-headers'), /Upload-Offset/)
    t.match(headers.get('access-control-expose-headers'), /Upload-Offset/)
  })
  await t.test('answers as the recorded ones, or as the table says', async (t) => {
    const like = comparing(t)
    await server.upload(folder, { 'hello.txt': 'hello world', 'sub/a/hello.txt': 'hello world', 'empty.txt': '' })
    // A date says that a file is the same only once its second is over.
    await utimes(join(mount, 'hello.txt'), 1_000_000, 1_000_000)
    const date = new Date(1_000_000_000).toUTCString()
    const file = vfolder.download('hello.txt')
    const get = (name: string, url: string, headers: Record<string, string> = {}) =>
      like(name, send('GET', url, undefined, { origin: 'http://ui', ...headers }))
    const { headers } = await get('GET download', file)
    await get('GET no_cache', `${file}&no_cache=true`)
    await like('HEAD download', send('HEAD', file))
    await like('OPTIONS download', send('OPTIONS', file))
    t.equal((await get('GET range', file, { range: 'bytes=6-' })).headers['content-range'], 'bytes 6-10/11')
    await get('GET range if-range', file, { range: 'bytes=6-10', 'if-range': date })
    await get('GET range multi', file, { range: 'bytes=0-1,3-4' })
    await get('GET range unsat', file, { range: 'bytes=100-' })
    await get('GET if-none-match', file, { 'if-none-match': String(headers.etag) })
    await get('GET if-modified-since', file, { 'if-modified-since': date })
    await get('GET dst_dir missing', `${file}&dst_dir=nope`)
    await get('GET download missing file', vfolder.download('nope.txt'))
    await get('GET directory', vfolder.download('sub'))
    await get('GET directory archive', vfolder.download('sub', '&archive=true'))
    await get('GET download-archive', vfolder.archive(['sub', 'empty.txt'], 'x y.zip'))
    await get('archive missing file', vfolder.archive(['gone']))
    const call = (path: string) => `${server.url}/backend-ai/${path}`
    await get('GET bad token', call('download?token=x'))
    await get('GET no token', call('download'))
    await get('GET expired token', vfolder.download('hello.txt', '', { exp: 1 }))
    await get('archive bad token', call('download-archive?token=x'))

    const url = vfolder.upload('a/hello.txt', 11, '&dst_dir=sub')
    const patch = (name: string, to: string, offset: string | undefined, body: string) =>
      like(
        name,
        send('PATCH', to, body, { 'tus-resumable': '1.0.0', ...(offset !== undefined && { 'upload-offset': offset }) }),
      )
    t.equal((await like('OPTIONS /upload', send('OPTIONS', url))).headers['tus-version'], '1.0.0')
    await like('HEAD upload', send('HEAD', url))
    await patch('PATCH no offset', url, undefined, 'hello ')
    await patch('PATCH bad offset', url, 'x', 'hello ')
    await patch('PATCH wrong offset', url, '3', 'hello ')
    await patch('PATCH first', url, '0', 'hello ')
    await like('HEAD upload mid', send('HEAD', url))
    await patch('PATCH last with dst_dir', url, '6', 'world')
    await like('HEAD upload done', send('HEAD', url))
    await like('POST upload', send('POST', vfolder.upload('new', 1)))
    await like('HEAD bad token', send('HEAD', call('upload?token=x')))
    await patch('PATCH bad token', call('upload?token=x'), '0', 'x')
    const empty = vfolder.upload('empty', 0)
    await like('HEAD 0 bytes', send('HEAD', empty))
    await patch('PATCH 0 bytes', empty, '0', '')
    await patch('PATCH more than size', vfolder.upload('over', 3), '0', 'abcde')
  })

  t.notMatch(server.rawLines().join('\n'), /eyJ/, 'no token is in the log')
})
