import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { temporaryDirectory } from '../server.ts'
import { server } from '../shared-server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)
const env = { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC' }

const formats = ['zip', 'zip&compression=deflate', 'tar', 'tar.gz', 'tar.zst']
const types: Record<string, string> = {
  zip: 'application/zip',
  tar: 'application/x-tar',
  'tar.gz': 'application/gzip',
  'tar.zst': 'application/zstd',
}
/** The programs that unpack each format, and the one that reads it from a pipe. */
const unpackers: Record<string, string[][]> = {
  zip: [
    ['unzip', '-q'],
    ['bsdtar', '-xpf'],
    ['python3', '-m', 'zipfile', '-e'],
  ],
  tar: [
    ['tar', '-xpf'],
    ['bsdtar', '-xpf'],
  ],
}

/** All that a directory holds, as text to compare. */
async function describe(root: string, { modes = true } = {}): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const path of await readdir(root, { recursive: true })) {
    const location = join(root, path)
    const stats = await lstat(location)
    const mode = (stats.mode & 0o7777).toString(8)
    const attributes = modes ? ` ${mode} ${Math.floor(stats.mtimeMs / 1000)}` : ''
    if (stats.isSymbolicLink()) found[path] = `-> ${await readlink(location)}`
    else if (stats.isDirectory()) found[path] = `directory${attributes}`
    else
      found[path] =
        createHash('sha256')
          .update(await readFile(location))
          .digest('hex') + attributes
  }
  return found
}

t.test('archives', async (t) => {
  const { folder, mount } = await server.files()
  const inAlbum = (name: string) => join(mount, 'album', name)

  const contents: Record<string, string | Buffer> = {
    'empty.txt': '',
    'small.txt': 'small',
    '한국어 파일 🎉.txt': '내용',
    'it\'s "quoted" & 100%; a+b#c?d\\e.txt': 'quotes',
    '-dash': 'dash',
    [`deep/${'long-name-'.repeat(20)}/${'한'.repeat(80)}.txt`]: 'long',
    'bound-64k.bin': Buffer.alloc(64 * 1024, 'abc'),
    'over-64k.bin': Buffer.alloc(64 * 1024 + 1, 'abc'),
    'random.bin': Buffer.from(Array.from({ length: 700_000 }, (_, index) => (index * 7919) ^ (index >> 7))),
    'large.bin': Buffer.alloc(5_000_001, 'a line that repeats\n'),
    '.hidden/x': 'hidden',
  }
  for (const [name, content] of Object.entries(contents)) {
    await mkdir(join(inAlbum(name), '..'), { recursive: true })
    await writeFile(inAlbum(name), content)
  }
  await mkdir(inAlbum('빈 폴더/inner'), { recursive: true })
  const links = {
    link: 'small.txt',
    'link-dir': 'deep',
    broken: 'none',
    out: '/etc/passwd',
    링크: '한국어 파일 🎉.txt',
  }
  for (const [name, target] of Object.entries({ ...links, 'long-link': 'x'.repeat(150) })) {
    await symlink(target, inAlbum(name))
  }
  await chmod(inAlbum('small.txt'), 0o600)
  await chmod(inAlbum('empty.txt'), 0o444)
  await chmod(inAlbum('-dash'), 0o755)
  await chmod(inAlbum('deep'), 0o750)
  for (const [name, time] of Object.entries({ 'small.txt': '2001-02-03T04:05:06.789Z', 'empty.txt': '1985-10-26Z' })) {
    await utimes(inAlbum(name), new Date(time), new Date(time))
  }
  await utimes(inAlbum('deep'), 1e9, 1e9)
  await writeFile(join(mount, 'beside.txt'), 'beside')

  for (const query of formats) {
    const format = query.replace(/&.*/, '')
    const kind = format.replace(/\..*/, '')
    // GNU tar starts it.
    const zstd = format === 'tar.zst' ? needing('zstd') : {}
    await t.test(query, { ...needing('curl', 'bsdtar', 'python3', 'unzip', 'zipinfo'), ...zstd }, async (t) => {
      const directory = await temporaryDirectory(t)
      const archive = join(directory, `album.${format}`)
      const url = (await server.signArchive(folder, ['album'])).replace('archive=zip', `archive=${query}`)
      await run('curl', ['-sSfOJ', url], { cwd: directory })
      t.same(await readdir(directory), [`album.${format}`], 'under its name')

      const expected = await describe(mount)
      delete expected['beside.txt']
      for (const [index, [command, ...args]] of unpackers[kind]!.entries()) {
        const to = join(directory, String(index))
        await mkdir(to)
        const python = command === 'python3'
        await run(command!, [...args, archive, ...(python ? [to] : [])], { cwd: to, env })
        // Python's unpacks neither modes nor symlinks.
        if (!python) t.same(await describe(to), expected, command!)
        else
          t.equal((await describe(to, { modes: false }))['album/small.txt'], expected['album/small.txt']!.split(' ')[0])
      }
      if (kind === 'zip') {
        await run('unzip', ['-tqq', archive], { env })
        await run('python3', [
          '-c',
          'import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).testzip() is None',
          archive,
        ])
        const { stdout } = await run('zipinfo', [archive], { env })
        t.match(stdout, /^lrwxrwxrwx .* album\/out$/m)
        t.match(stdout, /^drwxr-x--- .* album\/deep\/$/m)
        t.match(stdout, query === 'zip' ? /^-rw------- .* stor 01-Feb-03 04:05/m : / defN .* album\/large\.bin$/m)
      }

      const streamed = join(directory, 'streamed')
      await mkdir(streamed)
      const bsdtar = spawn('bsdtar', ['-xpf', '-'], { cwd: streamed, env, stdio: ['pipe', 'inherit', 'inherit'] })
      const exit = new Promise((resolve) => bsdtar.once('close', resolve))
      await once(bsdtar, 'spawn')
      await pipeline(createReadStream(archive), bsdtar.stdin)
      t.equal(await exit, 0, 'bsdtar reads it from a pipe')
      const fromPipe = await describe(streamed, { modes: kind !== 'zip' })
      if (kind !== 'zip') t.same(fromPipe, expected)
      else
        for (const name of Object.keys(contents))
          t.ok(expected[`album/${name}`]!.startsWith(fromPipe[`album/${name}`]!))
    })
  }

  await t.test('the headers, of GET and of HEAD', async (t) => {
    for (const query of formats) {
      const format = query.replace(/&.*/, '')
      const url = (await server.signArchive(folder)).replace('archive=zip', `archive=${query}`)
      const head = await fetch(url, { method: 'HEAD', headers: { [requestIdHeader]: 'archive-head' } })
      const got = await fetch(url, { headers: { [requestIdHeader]: 'archive-get' } })
      const bytes = Buffer.from(await got.arrayBuffer())
      for (const { status, headers } of [head, got]) {
        t.equal(status, 200)
        t.equal(headers.get('content-type'), types[format])
        t.equal(headers.get('content-disposition'), `attachment; filename="archive.${format}"`)
        t.equal(headers.get('accept-ranges'), 'none')
        const known = query === 'zip' || query === 'tar'
        t.equal(headers.get('content-length'), known ? String(bytes.length) : null, query)
      }
      t.equal(head.headers.get(requestIdHeader), 'archive-head')
      t.equal(got.headers.get(requestIdHeader), 'archive-get')
      t.equal(await head.text(), '')
    }
  })

  await t.test('an empty vfolder', needing('bsdtar', 'curl', 'python3'), async (t) => {
    const empty = await server.createFolder()
    const file = join(await temporaryDirectory(t), 'empty')
    for (const format of ['zip', 'tar', 'tar.gz', 'tar.zst']) {
      const url = await server.signArchive(empty, [], { archive: format })
      await run('curl', ['-sSf', '-o', file, url])
      t.equal((await run('bsdtar', ['-tf', file])).stdout, '', format)
      if (format === 'zip') await run('python3', ['-m', 'zipfile', '-t', file])
    }
  })

  await t.test('a selection', needing('bsdtar', 'curl'), async (t) => {
    const list = async (paths: string[], more: object = {}) => {
      const url = await server.signArchive(folder, paths, { archive: 'tar', ...more })
      const response = await fetch(url)
      const file = join(await temporaryDirectory(t), 'selection.tar')
      await writeFile(file, Buffer.from(await response.arrayBuffer()))
      const names = (await run('bsdtar', ['-tf', file], { env })).stdout.split('\n').filter(Boolean)
      return { names, url, disposition: response.headers.get('content-disposition') }
    }
    const several = await list([
      'album/small.txt',
      'album/빈 폴더',
      'album/link',
      'album/빈 폴더/inner',
      'album/small.txt',
    ])
    t.same(several.names, ['link', 'small.txt', '빈 폴더/', '빈 폴더/inner/'], 'each once, below what they share')
    t.match(several.url, `/download/${folder}/album?`)
    t.equal(several.disposition, 'attachment; filename="album.tar"')

    const apart = await list(['beside.txt', 'album/deep', 'album/small.txt'])
    t.match(apart.names, [
      'album/deep/',
      /^album\/deep\/long/,
      /^album\/deep\/long.*한\.txt$/,
      'album/small.txt',
      'beside.txt',
    ])
    t.equal(apart.disposition, 'attachment; filename="archive.tar"')

    t.same((await list(['album/빈 폴더'])).names, ['빈 폴더/', '빈 폴더/inner/'], 'a directory keeps its name')
    t.same((await list(['album/small.txt'])).names, ['small.txt'], 'a file')
    t.same((await list(['album/link'])).names, ['link'], 'a symlink')
    t.ok((await list([])).names.includes('album/.hidden/x'), 'all')
    const named = await list(['album'], { filename: '사진' })
    t.match(named.disposition, /filename\*=UTF-8''%EC%82%AC%EC%A7%84\.tar$/)
    t.equal((await list(['album'], { filename: 'my.tar' })).disposition, 'attachment; filename="my.tar"')
  })

  await t.test('what is not there', async (t) => {
    for (const paths of [['none'], ['album/none', 'album/small.txt']]) {
      const response = await fetch(await server.signArchive(folder, paths))
      t.match(await response.json(), { status: 404, code: 'entry_not_found' })
    }
    const gone = await server.createFolder()
    const url = await server.signArchive(gone)
    await server.ask('DELETE', `/folders/${gone}`)
    t.match(await (await fetch(url)).json(), { status: 404, code: 'vfolder_not_found' })
  })
})
