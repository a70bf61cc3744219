import { randomBytes } from 'node:crypto'
import { mkdir, realpath, rename, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { documentedConfiguration, freePort, startNginx } from '../nginx.ts'
import { startServer, temporaryDirectory } from '../server.ts'

async function startWithHandOver(t: Test, handOver: object, more: Record<string, string> = {}) {
  const root = await realpath(await temporaryDirectory(t))
  const volumes = { default: { backend: 'posix', root, handOver } }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes), ...more } })
  return { root, server, files: await server.files() }
}

/** The configuration of the documentation, with the places of this test. */
async function configuration(root: string, service: string, listen: string): Promise<string> {
  return (await documentedConfiguration('behind-nginx.md'))
    .replaceAll('/srv/files', root)
    .replaceAll('127.0.0.1:6021', service)
    .replaceAll('listen 80', `listen ${listen}`)
}

async function startBoth(t: Test) {
  const listen = `127.0.0.1:${await freePort()}`
  const handOver = { header: 'X-Accel-Redirect', prefix: '/handed-over' }
  const { root, server, files } = await startWithHandOver(t, handOver, { PUBLIC_URL: `http://${listen}` })
  const { host } = new URL(server.managerUrl)
  const nginx = await startNginx(t, `http://${listen}`, await configuration(root, host, listen))
  return { nginx, root, server, files }
}

t.test('downloads that nginx sends', async (t) => {
  const { nginx, root, server, files } = await startBoth(t)
  const content = randomBytes(3_000_000)
  await files.upload({ 'dir/data.json': new Uint8Array(content) })
  const url = await server.sign(files.folder, 'dir/data.json', { filename: 'größe "1".json' })
  const get = async (headers: Record<string, string> = {}, method = 'GET') => {
    const response = await fetch(url, { method, headers })
    return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) }
  }
  const whole = await get({ [requestIdHeader]: 'through-nginx', origin: 'https://app.example' })
  const etag = whole.headers.get('etag')!
  const lastModified = whole.headers.get('last-modified')!

  await t.test('come whole, with the headers of the service', async (t) => {
    t.equal(whole.status, 200)
    t.ok(whole.bytes.equals(content))
    const { headers } = whole
    t.match(headers.get('server'), /nginx/)
    t.equal(headers.get(requestIdHeader), 'through-nginx')
    t.equal(headers.get('content-length'), String(content.length))
    t.equal(headers.get('content-type'), 'application/json; charset=utf-8')
    t.equal(headers.get('cache-control'), 'private, no-cache')
    t.equal(headers.get('x-content-type-options'), 'nosniff')
    t.equal(headers.get('accept-ranges'), 'bytes')
    t.equal(etag, `"${(await files.stat('dir/data.json')).etag}"`)
    t.equal(headers.get('access-control-allow-origin'), '*')
    t.match(headers.get('access-control-expose-headers'), /ETag/)
    const disposition = Buffer.from(headers.get('content-disposition')!, 'latin1').toString()
    t.match(disposition, `filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22.json`)
    const line = server.linesOf('through-nginx').find(({ msg }) => msg === 'request completed')
    t.match(line, { res: { statusCode: 200 } }, 'and the service has long done with them')
    const direct = await fetch(url.replace(new URL(url).origin, server.url))
    t.equal(direct.headers.get('content-length'), '0', 'since it sends no byte')
    t.match(direct.headers.get('x-accel-redirect'), /^\/handed-over\//)
    for (const header of ['x-accel-redirect', 'x-accel-limit-rate']) t.equal(headers.get(header), null)
  })

  await t.test('a HEAD tells the same', async (t) => {
    const head = await get({}, 'HEAD')
    t.equal(head.status, 200)
    t.equal(head.bytes.length, 0)
    for (const name of ['content-length', 'content-type', 'content-disposition', 'etag', 'last-modified']) {
      t.equal(head.headers.get(name), whole.headers.get(name), name)
    }
  })

  await t.test('ranges', async (t) => {
    const part = await get({ range: 'bytes=1000000-1000009' })
    t.equal(part.status, 206)
    t.equal(part.headers.get('content-range'), `bytes 1000000-1000009/${content.length}`)
    t.ok(part.bytes.equals(content.subarray(1_000_000, 1_000_010)))

    const several = await get({ range: 'bytes=0-9,-10' })
    t.equal(several.status, 206)
    t.match(several.headers.get('content-type'), /^multipart\/byteranges; boundary=/)
    t.ok(several.bytes.includes(content.subarray(0, 10)) && several.bytes.includes(content.subarray(-10)))

    t.match(await get({ range: 'bytes=0-9', 'if-range': etag }), { status: 206 })
    t.match(await get({ range: 'bytes=0-9', 'if-range': lastModified }), { status: 206 })
    t.match(await get({ range: 'bytes=0-9', 'if-range': '"another"' }), { status: 200 })
    const outside = await get({ range: `bytes=${content.length}-` })
    t.equal(outside.status, 416)
    t.equal(outside.headers.get('content-range'), `bytes */${content.length}`)
    t.match(JSON.parse(outside.bytes.toString()), { code: 'range_not_satisfiable' })
  })

  await t.test('preconditions', async (t) => {
    const later = new Date(Date.parse(lastModified) + 60_000).toUTCString()
    const earlier = new Date(Date.parse(lastModified) - 60_000).toUTCString()
    const cases: [headers: Record<string, string>, status: number][] = [
      [{ 'if-none-match': etag }, 304],
      [{ 'if-none-match': `"another", ${etag}` }, 304],
      [{ 'if-none-match': '"another"' }, 200],
      [{ 'if-none-match': '"another"', 'if-modified-since': lastModified }, 200],
      [{ 'if-modified-since': lastModified }, 304],
      [{ 'if-modified-since': later }, 304],
      [{ 'if-modified-since': earlier }, 200],
      [{ 'if-match': etag }, 200],
      [{ 'if-match': `"another", ${etag}` }, 200],
      [{ 'if-match': '*' }, 200],
      [{ 'if-match': '"another"' }, 412],
      [{ 'if-match': etag, range: 'bytes=0-9' }, 206],
      [{ 'if-unmodified-since': lastModified }, 200],
      [{ 'if-unmodified-since': earlier }, 412],
    ]
    for (const [headers, status] of cases) {
      const answer = await get({ [requestIdHeader]: 'conditional', ...headers })
      t.equal(answer.status, status, JSON.stringify(headers))
      t.equal(answer.headers.get(requestIdHeader), 'conditional')
      if (status === 200) t.ok(answer.bytes.equals(content))
      if (status < 400) t.equal(answer.headers.get('etag'), etag)
    }
  })

  await t.test('names of all kinds', async (t) => {
    const long = '가'.repeat(85)
    const names = [
      'with space.txt',
      '100%.txt',
      '%2e%2e%2f',
      'what?.txt',
      'a#b.txt',
      'a&b=c;d.txt',
      'plus+plus.txt',
      'quote"s\'.txt',
      'back\\slash.txt',
      'line\nbreak.txt',
      '한국어 파일.txt',
      '😀/🗂️.txt',
      '..double/...',
      `${long}/${long}/${long}/${long}/${long}/deep.txt`,
    ]
    for (const name of names) {
      await mkdir(join(files.mount, name, '..'), { recursive: true })
      await writeFile(join(files.mount, name), `this is ${name}`)
      const response = await fetch(await server.sign(files.folder, name))
      t.equal(response.status, 200, name)
      t.match(response.headers.get('server'), /nginx/)
      t.equal(await response.text(), `this is ${name}`)
    }
  })

  await t.test('a symlink that stays inside is followed', async (t) => {
    await symlink('dir', join(files.mount, 'inside'))
    const response = await fetch(await server.sign(files.folder, 'inside/data.json'))
    t.equal(response.status, 200)
    t.ok(Buffer.from(await response.arrayBuffer()).equals(content))
  })

  await t.test('a symlink that leads outside is refused', async (t) => {
    await symlink('/etc', join(files.mount, 'outside'))
    await symlink('/etc/passwd', join(files.mount, 'passwd'))
    for (const path of ['outside/passwd', 'passwd']) {
      const response = await fetch(await server.sign(files.folder, path))
      t.match([response.status, await response.json()], [403, { code: 'outside_vfolder' }], path)
    }
  })

  await t.test('a symlink that is put there after the service has looked is refused by nginx', async (t) => {
    await files.upload({ 'directory/passwd': 'harmless', 'file/passwd': 'harmless' })
    const answers: string[] = []
    for (const path of ['directory/passwd', 'file/passwd']) {
      const { pathname, search } = new URL(await server.sign(files.folder, path))
      answers.push((await fetch(server.url + pathname + search)).headers.get('x-accel-redirect')!)
    }
    // After the swap nginx acts on what the service said before it, so a stub that always says it stands in.
    const service = `127.0.0.1:${await freePort()}`
    const listen = `127.0.0.1:${await freePort()}`
    const locations = answers.map((to, at) => `location /${at} { add_header X-Accel-Redirect "${to}"; return 200; }`)
    const stub = `server { listen ${service}; ${locations.join(' ')} }`
    const other = await startNginx(t, `http://${listen}`, (await configuration(root, service, listen)) + stub)
    for (const at of [0, 1]) t.equal(await (await fetch(`http://${listen}/${at}`)).text(), 'harmless')

    await rename(join(files.mount, 'directory'), join(files.mount, 'before'))
    await symlink('/etc', join(files.mount, 'directory'))
    await unlink(join(files.mount, 'file/passwd'))
    await symlink('/etc/passwd', join(files.mount, 'file/passwd'))
    const responses = [await fetch(`http://${listen}/0`), await fetch(`http://${listen}/1`)]
    t.same(
      responses.map(({ status }) => status),
      [404, 403],
    )
    for (const response of responses) t.notMatch(await response.text(), 'root:')
    t.match(await other.errors(), /directory\/passwd" failed \(20: Not a directory\)/)
    t.match(await other.errors(), /file\/passwd" failed \(40: Too many levels of symbolic links\)/)
  })

  await t.test('archives and uploads pass through', async (t) => {
    const archive = await fetch(await server.signArchive(files.folder, ['dir'], { archive: 'tar' }))
    t.equal(archive.status, 200)
    t.ok(Buffer.from(await archive.arrayBuffer()).includes(content))
    const upload = await server.sign(files.folder, 'uploaded', { operation: 'upload' })
    t.match(await fetch(upload, { method: 'PUT', body: new Uint8Array(content) }), { status: 201 })
    t.match(await files.stat('uploaded'), { size: content.length })
  })

  await t.test('a rate is kept by nginx', async (t) => {
    const signed = await server.sign(files.folder, 'dir/data.json', { bytesPerSecond: 1_000_000 })
    const started = performance.now()
    const response = await fetch(signed)
    t.match(response.headers.get('server'), /nginx/)
    t.ok(Buffer.from(await response.arrayBuffer()).equals(content))
    t.ok(performance.now() - started > 1500, `${performance.now() - started} ms`)
  })

  t.notMatch(await nginx.errors(), /\[(crit|alert|emerg)\]/)
})

t.test('X-Sendfile', async (t) => {
  const { root, server, files } = await startWithHandOver(t, { header: 'X-Sendfile' })
  await files.upload({ 'a b.txt': 'hello' })
  const url = await server.sign(files.folder, 'a b.txt')

  await t.test('names the file, and no byte is sent', async (t) => {
    const response = await fetch(url)
    t.equal(response.status, 200)
    t.equal(response.headers.get('content-length'), '0')
    t.equal(decodeURIComponent(response.headers.get('x-sendfile')!), join(files.mount, 'a b.txt'))
    t.ok(files.mount.startsWith(root))
  })

  await t.test('what it cannot do is done here', async (t) => {
    const limited = await fetch(await server.sign(files.folder, 'a b.txt', { bytesPerSecond: 100_000 }))
    const matched = await fetch(url, { headers: { 'if-match': '*' } })
    const asManager = await server.manager('GET', `/folders/${files.folder}/content/a%20b.txt`)
    for (const response of [limited, matched, asManager]) {
      t.equal(response.headers.get('x-sendfile'), null)
      t.equal(await response.text(), 'hello')
    }
  })
})
