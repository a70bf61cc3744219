import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { json, text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import {
  type Answer,
  eventually,
  formOf,
  managerToken,
  type Server,
  startServer,
  temporaryDirectory,
} from '../server.ts'
import { server } from '../shared-server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)
const boundary = 'a-boundary'

function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

/** The head of an upload whose body has `length` bytes, and the start of that body: a file that goes on. */
function startOfUpload(folder: string, requestId: string, length: number): string {
  const head = [
    `POST /folders/upload?folder=${folder} HTTP/1.1`,
    `Host: x\r\nAuthorization: Bearer ${managerToken}\r\n${requestIdHeader}: ${requestId}`,
    `Content-Type: multipart/form-data; boundary=${boundary}\r\nContent-Length: ${length}`,
  ]
  return `${head.join('\r\n')}\r\n\r\n${partHead('large.bin')}`
}

function partHead(filename: string): string {
  return `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${filename}"\r\n\r\n`
}

async function assertNothingLeft(t: Test, server: Server, folder: string, visible: string[]) {
  await eventually(async () => (await server.staged()).length === 0 && (await server.openFiles()).length === 0)
  t.same(await readdir(await server.mountOf(folder)), visible)
}

t.test('files of every kind, in one form', async (t) => {
  const folder = await server.createFolder()
  const files = {
    'a.txt': 'hello',
    'empty.txt': '',
    'large.bin': new Uint8Array(randomBytes(5_000_000)),
    'one/two/three/deep.txt': 'deep',
    'né/파일 😀.txt': 'names',
    'a "quoted" name; and=more.txt': 'quotes',
    'line\nbreak.txt': 'line',
    "100% + 'a' & b?.txt": 'signs',
  }
  const answer = await server.ask('POST', `/folders/upload?folder=${folder}&path=some/place`, formOf(files))
  t.same(
    answer.files,
    Object.entries(files).map(([name, content]) => ({
      path: `some/place/${name}`,
      size: Buffer.byteLength(content),
      sha256: sha256(content),
    })),
  )
  const mount = await server.mountOf(folder)
  for (const [name, content] of Object.entries(files)) {
    t.equal(sha256(await readFile(join(mount, 'some/place', name))), sha256(content), name)
  }
  const bytes = Object.values(files).reduce((sum, content) => sum + Buffer.byteLength(content), 0)
  t.match((await server.ask('GET', `/folders/${folder}`)).usage, { files: 8, bytes })

  await t.test('a file of that name is replaced, and counted once', async (t) => {
    const { files } = await server.ask(
      'POST',
      `/folders/upload?folder=${folder}`,
      formOf({ 'some/place/a.txt': 'bye' }),
    )
    t.same(files, [{ path: 'some/place/a.txt', size: 3, sha256: sha256('bye') }])
    t.equal(await readFile(join(mount, 'some/place/a.txt'), 'utf8'), 'bye')
    t.match((await server.ask('GET', `/folders/${folder}`)).usage, { files: 8, bytes: bytes - 2 })
  })

  await t.test('the last of two files of one name stays', async (t) => {
    const form = formOf({ 'twice.txt': 'first' })
    form.append('file', new Blob(['second']), 'twice.txt')
    t.equal((await server.ask('POST', `/folders/upload?folder=${folder}`, form)).files.length, 2)
    t.equal(await readFile(join(mount, 'twice.txt'), 'utf8'), 'second')
  })

  await t.test('curl', needing('curl'), async (t) => {
    const directory = await temporaryDirectory(t)
    const names = ['plain.txt', 'ünï.txt', 'a "b".txt']
    for (const name of names) await writeFile(join(directory, name), name)
    const form = names.flatMap((name) => ['-F', `file=@"${name.replaceAll('"', '\\"')}"`])
    const url = `${server.url}/folders/upload?folder=${folder}&path=curl`
    const { stdout } = await run('curl', ['-sS', url, '-H', `Authorization: Bearer ${managerToken}`, ...form], {
      cwd: directory,
    })
    t.same(
      JSON.parse(stdout).files,
      names.map((name) => ({ path: `curl/${name}`, size: Buffer.byteLength(name), sha256: sha256(name) })),
    )
  })
  t.same(await server.staged(), [])
})

t.test('a form that cannot be stored', async (t) => {
  const folder = await server.createFolder()
  await server.upload(folder, { 'dir/a.txt': 'a' })
  const upload = async (body: string | FormData, type?: string): Promise<Answer> => {
    const headers = { authorization: `Bearer ${managerToken}`, ...(type !== undefined && { 'content-type': type }) }
    const url = `${server.url}/folders/upload?folder=${folder}`
    return (await fetch(url, { method: 'POST', body, headers })).json()
  }
  const multipart = `multipart/form-data; boundary=${boundary}`
  const field = new FormData()
  field.append('note', 'no file')

  t.match(await upload(`--${boundary}--\r\n`, multipart), { code: 'malformed_multipart', detail: /has no file/ })
  t.match(await upload('', multipart), { code: 'malformed_multipart', detail: /has no file/ })
  t.match(await upload('no form', multipart), { code: 'malformed_multipart' })
  t.match(await upload(partHead('a'), 'multipart/form-data'), { code: 'malformed_multipart', detail: /[Bb]oundary/ })
  t.match(await upload(field), { code: 'validation_failed', field: 'note', detail: /note is not a file/ })
  t.match(await upload('{}', 'application/json'), { code: 'unsupported_media_type', status: 415 })
  t.match(await upload('text', 'text/plain'), { code: 'unsupported_media_type', status: 415 })

  const first = { path: 'first.txt', size: 5, sha256: sha256('first') }
  t.match(await upload(`${partHead('first.txt')}first\r\n${partHead('cut.txt')}cut`, multipart), {
    code: 'malformed_multipart',
    files: [first],
  })
  // Small files are stored several at a time: the last one may be on its way when the one before it fails.
  const failed = await upload(formOf({ 'first.txt': 'first', dir: 'a directory', 'last.txt': 'last' }))
  t.match(failed, { code: 'is_a_directory' })
  const stored = (failed.files as { path: string }[]).map(({ path }) => path)
  t.match(stored, ['first.txt'])
  await assertNothingLeft(t, server, folder, ['dir', ...stored])

  await t.test('a path that is too long only as a whole', async (t) => {
    const path = `${'x'.repeat(249)}/`.repeat(16) + 'x'.repeat(90)
    const form = formOf({ 'a.txt': 'a', ['y'.repeat(200)]: 'too long' })
    const response = await server.manager('POST', `/folders/upload?folder=${folder}&path=${path}`, form)
    t.match(await response.json(), {
      status: 400,
      code: 'invalid_path',
      field: 'file',
      in: 'body',
      rule: /filename.* must not be over 4096 bytes/,
      files: [{ path: `${path}/a.txt` }],
    })
    // Node itself could not remove it when the test ends.
    await server.ask('POST', `/folders/${folder}/files/delete`, { paths: [path.split('/')[0]], recursive: true })
  })
})

t.test('a part that is no file is refused, not passed over', async (t) => {
  const folder = await server.createFolder()
  const signed = await server.sign(folder, 'form', { operation: 'upload' })
  const routes = [`${server.url}/folders/upload?folder=${folder}&path=form`, signed]
  const post = async (url: string, body: string, type = `multipart/form-data; boundary=${boundary}`) => {
    const headers = { authorization: `Bearer ${managerToken}`, 'content-type': type }
    const response = await fetch(url, { method: 'POST', body, headers })
    return { status: response.status, answer: (await response.json()) as Answer }
  }
  const named = (disposition: string) => `Content-Disposition: ${disposition}; name="file"; filename="lost.txt"\r\n`
  const heads = {
    'no header': '',
    'no Content-Disposition': 'Content-Type: text/plain\r\n',
    'another disposition': named('attachment'),
    'a header over the limit of the parser': `X-Long: ${'x'.repeat(90_000)}\r\n${named('form-data')}`,
    'a line that is no header': `nonsense\r\n${named('form-data')}`,
  }
  const [first, last] = [`${partHead('first.txt')}first\r\n`, `${partHead('last.txt')}last\r\n`]
  const end = `--${boundary}--\r\n`

  for (const url of routes) {
    for (const [what, head] of Object.entries(heads)) {
      const lost = `--${boundary}\r\n${head}\r\nlost\r\n`
      const { status, answer } = await post(url, `${first}${lost}${last}${end}`)
      t.match([status, answer.code], [400, 'malformed_multipart'], what)
      t.match(answer.detail, /the 3 parts.* 2 can.*Content-Disposition: form-data/, what)
      t.match(answer.files, [{ path: 'form/first.txt' }, { path: 'form/last.txt' }], what)
      t.match(
        await post(url, `${lost}${end}`),
        { status: 400, answer: { code: 'malformed_multipart' } },
        `only ${what}`,
      )
    }
    const headless = `--${boundary}\r\n${named('form-data')}`
    t.match(await post(url, `${first}${headless}${end}`), {
      status: 400,
      answer: { files: [{ path: 'form/first.txt' }] },
    })
    const longer = `--${boundary}-and-more\r\n`
    t.match(await post(url, `${first}${longer}${end}`), { status: 400 }, 'a delimiter inside a file')
  }

  await t.test('what only looks so is stored', async (t) => {
    // Whatever the network makes of it: the delimiters come whole and in pieces.
    const almost = `\r\n--${boundary.slice(0, -1)}\r\n--a\r\n`
    const form = `a preamble\r\n${partHead('almost.txt')}${almost}\r\n${last}--${boundary}--\r\nan epilogue\r\n--${boundary}\r\n`
    const quoted = `multipart/form-data; charset=utf-8; Boundary="${boundary}"`
    for (const url of routes) {
      t.match(await post(url, form), { status: 201, answer: { files: [{ size: almost.length }, { size: 4 }] } })
      t.match(await post(url, form, quoted), { status: 201 })
    }
    const { pathname, search, hostname, port } = new URL(signed)
    for (const size of [1, 2, 7, 40]) {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true })
      const length = Buffer.byteLength(form)
      const type = `multipart/form-data; boundary=${boundary}`
      socket.write(
        `POST ${pathname}${search} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`,
      )
      for (let start = 0; start < length; start += size) {
        socket.write(form.slice(start, start + size))
        await new Promise(setImmediate)
      }
      t.match(await text(socket), /^HTTP\/1\.1 201 /, `in pieces of ${size}`)
    }
  })
})

t.test('a file over the limit', async (t) => {
  const maxBytes = 1_000_000
  const server = await startServer(t, { env: { UPLOAD_MAX_BYTES: String(maxBytes) } })
  const folder = await server.createFolder()
  await server.upload(folder, { 'just-so.bin': new Uint8Array(maxBytes) })
  const over = { status: 413, code: 'file_too_large', maxBytes, detail: /over the limit of 1000000 bytes/ }

  await t.test('by one byte', async (t) => {
    const form = formOf({ 'first.txt': 'first', 'over.bin': new Uint8Array(maxBytes + 1), 'last.txt': 'last' })
    const response = await server.manager('POST', `/folders/upload?folder=${folder}`, form)
    t.equal(response.status, 413)
    t.match(await response.json(), { ...over, files: [{ path: 'first.txt' }] })
    await assertNothingLeft(t, server, folder, ['first.txt', 'just-so.bin'])
  })

  await t.test('by far: the client reads the answer when it has sent all, and the connection lives on', async (t) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(() => agent.destroy())
    const headers = { authorization: `Bearer ${managerToken}` }
    const upload = request(`${server.url}/folders/upload?folder=${folder}`, {
      method: 'POST',
      agent,
      headers: {
        ...headers,
        'content-type': `multipart/form-data; boundary=${boundary}`,
        'content-length': 50_000_000,
      },
    })
    const answered = new Promise<IncomingMessage>((resolve, reject) =>
      upload.on('response', resolve).on('error', reject),
    )
    upload.write(partHead('over.bin'))
    const chunk = new Uint8Array(1_000_000)
    for (let sent = 0; sent < 49; sent++) await new Promise((resolve) => upload.write(chunk, resolve))
    upload.end(new Uint8Array(1_000_000 - partHead('over.bin').length))
    const answer = await answered
    const port = answer.socket.localPort
    t.match(await json(answer), over)
    const next = request(`${server.url}/livez`, { agent }).end()
    const response = await new Promise<IncomingMessage>((resolve) => next.on('response', resolve))
    t.equal(response.socket.localPort, port, 'on the same connection')
    t.match(await json(response), { status: 'alive' })
  })

  await t.test('curl sees the answer too', needing('curl'), async (t) => {
    const directory = await temporaryDirectory(t)
    await writeFile(join(directory, 'over.bin'), new Uint8Array(30_000_000))
    const url = `${server.url}/folders/upload?folder=${folder}`
    const args = ['-sS', url, '-H', `Authorization: Bearer ${managerToken}`, '-F', 'file=@over.bin']
    t.match(JSON.parse((await run('curl', args, { cwd: directory })).stdout), over)
  })
  await assertNothingLeft(t, server, folder, ['first.txt', 'just-so.bin'])
})

t.test('a client that goes away', async (t) => {
  const folder = await server.createFolder()
  await server.upload(folder, { 'large.bin': 'the old one' })
  const { hostname, port } = new URL(server.url)

  for (const [how, leave] of [
    ['destroy', 'destroy'],
    ['reset', 'resetAndDestroy'],
    ['half-close', 'end'],
  ] as const) {
    await t.test(`by ${how}, in the middle of a large file`, async (t) => {
      const id = `goes-away-by-${how}`
      const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true })
      socket.write(startOfUpload(folder, id, 2 ** 32))
      socket.write(new Uint8Array(8_000_000))
      await eventually(async () => (await server.staged()).length === 1)
      t.ok((await server.openFiles()).some((path) => path.includes('/staging/')))
      const answer = text(socket).catch(() => '')
      socket[leave]()
      await answer
      const line = await server.logged(({ request_id, msg }) => request_id === id && msg === 'request aborted')
      t.equal(line.reason, 'the client went away')
      await assertNothingLeft(t, server, folder, ['large.bin'])
      t.equal(await readFile(join(await server.mountOf(folder), 'large.bin'), 'utf8'), 'the old one')
      t.same(
        server.linesOf(id).filter(({ level }) => level >= 50),
        [],
        'and that is no error of ours',
      )
    })
  }
  await server.upload(folder, { 'large.bin': 'the new one' })
})

t.test('of uploads to one name at once, one is there as a whole', async (t) => {
  const folder = await server.createFolder()
  const versions = Array.from({ length: 12 }, (_, version) => new Uint8Array(2_000_000).fill(version))
  await Promise.all(versions.map((version) => server.upload(folder, { 'file.bin': version })))
  const found = sha256(await readFile(join(await server.mountOf(folder), 'file.bin')))
  t.ok(versions.some((version) => sha256(version) === found))
  await assertNothingLeft(t, server, folder, ['file.bin'])
})
