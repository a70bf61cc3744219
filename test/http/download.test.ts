import { execFile } from 'node:child_process'
import { mkdir, readdir, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, eventually, temporaryDirectory } from '../server.ts'
import { server } from '../shared-server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)

/** Decodes a header that some servers write as UTF-8 and HTTP clients read byte by byte. */
function utf8(header: string | null): string {
  return Buffer.from(header ?? '', 'latin1').toString()
}

t.test('downloads', async (t) => {
  const folder = await server.createFolder()
  const mount = await server.mountOf(folder)

  await t.test('GET and HEAD tell the same', async (t) => {
    const sizes = { 'empty.txt': 0, 'small.txt': 10, 'large.txt': 300_000 }
    for (const [name, size] of Object.entries(sizes)) {
      const content = 'x'.repeat(size)
      await server.upload(folder, { [name]: content })
      await utimes(join(mount, name), 0, new Date('2024-02-29T12:34:56.789Z'))
      const url = await server.sign(folder, name)
      const [got, head] = [await fetch(url), await fetch(url, { method: 'HEAD' })]
      t.equal(await got.text(), content, name)
      t.equal(await head.text(), '')
      for (const { status, headers } of [got, head]) {
        t.equal(status, 200)
        t.equal(headers.get('content-length'), String(size))
        t.equal(headers.get('content-type'), 'text/plain; charset=utf-8')
        t.equal(headers.get('last-modified'), 'Thu, 29 Feb 2024 12:34:56 GMT')
        t.match(headers.get('etag'), /^"[!#-~]+"$/)
        t.equal(headers.get('accept-ranges'), 'bytes')
        t.equal(headers.get('x-content-type-options'), 'nosniff')
        t.match(headers.get('cache-control'), 'private')
        t.equal(headers.get('content-disposition'), `attachment; filename="${name}"`)
        t.ok(headers.get(requestIdHeader))
      }
      t.equal(got.headers.get('etag'), head.headers.get('etag'))
      const { pathname, search } = new URL(url)
      const { body } = await server.raw(`HEAD ${pathname}${search} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
      t.equal(body, '', 'no byte follows the headers of a HEAD')
    }
  })

  await t.test('the ETag changes with the bytes, though size and modification time stay', async (t) => {
    const file = join(mount, 'same.txt')
    const time = new Date('2024-01-01')
    const tags = new Set<string | null>()
    for (const content of ['one', 'two', 'six']) {
      await writeFile(file, content)
      const { ctimeMs } = await stat(file)
      // The kernel's clock for files ticks some hundred times a second.
      await eventually(async () => {
        await utimes(file, time, time)
        return (await stat(file)).ctimeMs !== ctimeMs
      })
      tags.add((await fetch(await server.sign(folder, 'same.txt'))).headers.get('etag'))
    }
    t.equal(tags.size, 3)
  })

  await t.test('media types', async (t) => {
    const types: Record<string, string> = {
      'a.html': 'text/html; charset=utf-8',
      'a.JSON': 'application/json; charset=utf-8',
      'a.tar.gz': 'application/gzip',
      'a.png': 'image/png',
      'a.pdf': 'application/pdf',
      'a.mp4': 'video/mp4',
      'a.unheard-of': 'application/octet-stream',
      'a.': 'application/octet-stream',
      html: 'application/octet-stream',
      '.html': 'application/octet-stream',
    }
    for (const [name, type] of Object.entries(types)) {
      await writeFile(join(mount, name), 'x')
      t.equal((await fetch(await server.sign(folder, name))).headers.get('content-type'), type, name)
    }
    const inline = await fetch(await server.sign(folder, 'a.html', { disposition: 'inline' }))
    t.equal(inline.headers.get('content-disposition'), 'inline; filename="a.html"')
    t.equal(inline.headers.get('content-security-policy'), 'sandbox', 'a page of a user has no rights of ours')
  })

  await t.test('file names', needing('curl'), async (t) => {
    const names = ['plain.txt', 'with space.txt', '100%25.txt', 'a;b=c.txt', 'été.txt', '한국어.txt', 'party-🎉.txt']
    const quoted = ['it\'s "quoted".txt', 'back\\slash.txt']
    for (const name of [...names, ...quoted]) {
      const directory = await temporaryDirectory(t)
      await writeFile(join(mount, name), `content of ${name}`)
      const url = await server.sign(folder, name)
      const header = utf8((await fetch(url)).headers.get('content-disposition'))
      const extended = /filename\*=UTF-8''(.*)$/.exec(header)?.[1]
      const plain = /filename="([^"]*)"/.exec(header)?.[1]
      t.equal(extended === undefined ? plain : decodeURIComponent(extended), name, 'browsers and wget')

      await run('curl', ['-sSfOJ', url], { cwd: directory })
      t.same(await readdir(directory), [name.replaceAll(/["\\]/g, "'")], 'curl')
    }
    const renamed = await fetch(await server.sign(folder, 'plain.txt', { filename: '보고서.pdf' }))
    t.match(
      utf8(renamed.headers.get('content-disposition')),
      'attachment; filename="보고서.pdf"; filename*=UTF-8\'\'%EB',
    )
    t.equal(renamed.headers.get('content-type'), 'application/pdf')

    await writeFile(join(mount, 'two\r\nlines: x'), '')
    const { status, headers } = await fetch(await server.sign(folder, 'two\r\nlines: x'))
    t.equal(status, 200)
    t.equal(headers.get('lines'), null, 'a name adds no header')
  })

  await t.test('symlinks', async (t) => {
    await mkdir(join(mount, 'dir'))
    await writeFile(join(mount, 'dir/target.txt'), 'inside')
    await writeFile(join(server.dataDir, 'secret'), 'SECRET')
    const links: [name: string, target: string, answer: string | [number, string]][] = [
      ['relative', 'dir/target.txt', 'inside'],
      ['absolute', join(mount, 'dir/target.txt'), 'inside'],
      ['chain', 'relative', 'inside'],
      ['outside', join(server.dataDir, 'secret'), [403, 'outside_vfolder']],
      ['upwards', '../../../../../../secret', [403, 'outside_vfolder']],
      ['system', '/etc/hostname', [403, 'outside_vfolder']],
      ['dangling', 'nowhere', [404, 'entry_not_found']],
      ['loop', 'loop', [409, 'invalid_operation']],
    ]
    for (const [name, target, expected] of links) {
      await symlink(target, join(mount, name))
      const response = await fetch(await server.sign(folder, name))
      if (typeof expected === 'string') {
        t.equal(await response.text(), expected, name)
        continue
      }
      const [status, code] = expected
      const problem: Answer = await response.json()
      t.match(problem, { status, code, requestId: response.headers.get(requestIdHeader) }, name)
      t.notMatch(problem.detail, server.dataDir, 'no path of the host is told')
    }
  })

  await t.test('what is no file', async (t) => {
    await run('mkfifo', [join(mount, 'fifo')])
    for (const [name, code] of [
      ['dir', 'is_a_directory'],
      ['fifo', 'not_a_file'],
    ] as const) {
      for (const method of ['GET', 'HEAD']) {
        const response = await fetch(await server.sign(folder, name), { method })
        t.equal(response.status, 409, `${method} ${name}`)
        t.equal(response.headers.get('content-disposition'), null, 'and nothing to save')
        if (method === 'GET') t.match(await response.json(), { code, requestId: response.headers.get(requestIdHeader) })
      }
    }
  })
})
