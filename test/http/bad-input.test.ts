import { readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { managerToken, type RawAnswer, type Server, startServer } from '../server.ts'

const head = `Host: x\r\nAuthorization: Bearer ${managerToken}\r\nConnection: close\r\n`
const boundary = 'a-boundary'

/** One for a URL, one for JSON or a form, and the rule that they break. */
const refusedPaths: [encoded: string, decoded: string, rule: string][] = [
  ['..', '..', 'must not have a .. segment'],
  ['../secret', '../secret', 'must not have a .. segment'],
  ['dir/../../secret', 'dir/../../secret', 'must not have a .. segment'],
  ['%2e%2e/secret', 'dir/..', 'must not have a .. segment'],
  ['..%2Fsecret', '../../secret', 'must not have a .. segment'],
  ['%2E%2E%2fsecret', '../', 'must not have a .. segment'],
  ['.', '.', 'must not have a . segment'],
  ['./a.txt', './a.txt', 'must not have a . segment'],
  ['dir/%2e/b.txt', 'dir/./b.txt', 'must not have a . segment'],
  ['/etc/passwd', '/etc/passwd', 'must be relative'],
  ['%2Fetc%2Fpasswd', '//etc/passwd', 'must be relative'],
  ['dir//b.txt', 'dir//b.txt', 'must not have an empty segment'],
  ['dir/', 'dir/', 'must not have an empty segment'],
  ['a.txt%00', 'a.txt\0', 'must not contain NUL'],
  ['x'.repeat(256), 'x'.repeat(256), 'must not have a segment over 255 bytes'],
  ['%C3%A9'.repeat(128), 'é'.repeat(128), 'must not have a segment over 255 bytes'],
  ['5678/'.repeat(819).concat('xx'), '5678/'.repeat(819).concat('xx'), 'must not be over 4096 bytes'],
]
/** Not UTF-8, or no encoding at all: overlong dots and slashes, a surrogate, lone bytes. */
const undecodable = ['%c0%ae%c0%ae/secret', '..%c0%afsecret', '%e0%80%ae', '%ed%a0%80', '%ff', 'a%ffb', '%zz', 'a%']
/** Strange, but names like others on Linux. */
const harmless: [encoded: string, decoded: string][] = [
  ['..%5csecret', '..\\secret'],
  ['%252e%252e%252fsecret', '%2e%2e%2fsecret'],
  ['...', '...'],
]

type Place = [name: string, field: string, request: (path: string) => string]

function get(url: string): string {
  return `GET ${url} HTTP/1.1\r\n${head}\r\n`
}

function post(url: string, type: string, body: string): string {
  return `POST ${url} HTTP/1.1\r\n${head}Content-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}

function postJson(url: string, body: unknown): string {
  return post(url, 'application/json', JSON.stringify(body))
}

function postFile(url: string, filename: string): string {
  const part = `Content-Disposition: form-data; name="file"; filename="${filename}"\r\n\r\nhello\r\n`
  return post(url, `multipart/form-data; boundary=${boundary}`, `--${boundary}\r\n${part}--${boundary}--\r\n`)
}

function problemOf(t: Test, { status, headers, body }: RawAnswer, what: string) {
  t.match(headers.get('content-type'), 'application/problem+json', what)
  const problem = JSON.parse(body)
  t.equal(problem.status, status, what)
  t.equal(problem.requestId, headers.get(requestIdHeader), what)
  t.equal(problem.type, `urn:storage-proxy:problem:${problem.code}`, what)
  return problem
}

/** A vfolder with `a.txt` and `dir/b.txt`, and a secret in every directory above it. */
async function prepare(server: Server): Promise<string> {
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'hello', 'dir/b.txt': 'hello' })
  for (let at = dirname(await server.mountOf(folder)); at.startsWith(server.dataDir); at = dirname(at)) {
    await writeFile(join(at, 'secret'), 'SECRET')
  }
  return folder
}

const server = await startServer(t)

t.test('paths', async (t) => {
  const folder = await prepare(server)
  const token = new URL(await server.sign(folder, 'a.txt')).search
  const files = `/folders/${folder}/files`
  const inUrl: Place[] = [
    ['content', 'path', (path) => get(`/folders/${folder}/content/${path}`)],
    ['download', 'path', (path) => get(`/download/${folder}/${path}${token}`)],
    ['stat', 'path', (path) => get(`${files}/stat?path=${path}`)],
    ['list', 'path', (path) => get(`${files}?path=${path}`)],
    ['mount', 'path', (path) => get(`/folders/${folder}/mount?path=${path}`)],
    ['upload to', 'path', (path) => postFile(`/folders/upload?folder=${folder}&path=${path}`, 'new.txt')],
  ]
  const inBody: Place[] = [
    ['mkdir', 'path', (path) => postJson(`${files}/mkdir`, { path })],
    ['move from', 'from', (from) => postJson(`${files}/move`, { from, to: 'new.txt' })],
    ['move to', 'to', (to) => postJson(`${files}/move`, { from: 'a.txt', to })],
    ['copy from', 'from', (from) => postJson(`${files}/copy`, { from, to: 'new.txt' })],
    ['copy to', 'to', (to) => postJson(`${files}/copy`, { from: 'a.txt', to })],
    ['delete', 'paths.1', (path) => postJson(`${files}/delete`, { paths: ['a.txt', path], recursive: true })],
    ['sign', 'paths.0', (path) => postJson(`/folders/${folder}/signed-urls`, { operation: 'download', paths: [path] })],
    ['filename', 'file', (path) => postFile(`/folders/upload?folder=${folder}`, path)],
  ]
  const before = await readdir(server.dataDir, { recursive: true })

  for (const [name, field, request] of [...inUrl, ...inBody]) {
    await t.test(`${name} refuses a path that breaks a rule, and names it`, async (t) => {
      const cases = inUrl.some(([urlName]) => urlName === name)
        ? refusedPaths.map(([encoded, , rule]) => [encoded, rule] as const)
        : refusedPaths.map(([, decoded, rule]) => [decoded, rule] as const)
      for (const [path, rule] of cases) {
        const what = path.slice(0, 40)
        const problem = problemOf(t, await server.raw(request(path)), what)
        t.equal(problem.code, 'invalid_path', what)
        t.equal(problem.field, field, what)
        t.ok(problem.rule.endsWith(rule), `${problem.rule} ends with: ${rule}`)
        t.ok(problem.detail.includes(field) && problem.detail.includes(rule), problem.detail)
      }
    })
  }

  for (const [name, , request] of inUrl) {
    await t.test(`${name} refuses what is not percent-encoded UTF-8`, async (t) => {
      for (const path of undecodable) {
        const problem = problemOf(t, await server.raw(request(path)), path)
        t.equal(problem.code, 'invalid_url', path)
        t.match(problem.detail, /must be percent-encoded UTF-8/, path)
      }
    })
  }

  await t.test('a body that is not UTF-8 is refused, since two names would become the same', async (t) => {
    const latin1 = [postJson(`${files}/mkdir`, { path: '?' }), postFile(`/folders/upload?folder=${folder}`, '?')]
    const codes = ['malformed_json', 'invalid_path']
    for (const [index, request] of latin1.entries()) {
      const [start, end] = [request.slice(0, request.lastIndexOf('?')), request.slice(request.lastIndexOf('?') + 1)]
      const problem = problemOf(t, await server.raw(start, Uint8Array.of(0xe4), end), codes[index]!)
      t.equal(problem.code, codes[index])
      t.match(problem.detail, /must be( valid)? UTF-8/)
    }
    const surrogate = post(`${files}/mkdir`, 'application/json', '{"path": "a\\ud800"}')
    t.equal(problemOf(t, await server.raw(surrogate), 'surrogate').rule, 'must be valid UTF-8')
  })

  t.same(await readdir(server.dataDir, { recursive: true }), before, 'nothing was made, moved or deleted anywhere')

  await t.test('strange names are only names', async (t) => {
    for (const [encoded, decoded] of harmless) {
      for (const [name, , request] of inUrl.slice(2, 4)) {
        t.equal(problemOf(t, await server.raw(request(encoded)), name).code, 'entry_not_found', `${name} ${encoded}`)
      }
      await server.upload(folder, { [decoded]: `content of ${decoded}` })
      t.equal((await server.raw(get(`/folders/${folder}/content/${encoded}`))).body, `content of ${decoded}`)
    }
    const { entries } = await server.ask('GET', files)
    t.same(
      entries.map(({ path }: { path: string }) => path),
      ['%2e%2e%2fsecret', '...', '..\\secret', 'a.txt', 'dir'],
    )
  })

  t.notOk(
    server.rawLines().some((line) => line.includes(token.slice('?token='.length))),
    'no token is in the log',
  )
})

t.test('an entry that is not of the kind that is needed', async (t) => {
  const folder = await prepare(server)
  const files = `/folders/${folder}/files`
  const cases: [number, string, string, RegExp][] = [
    [409, 'is_a_directory', get(`/folders/${folder}/content/dir`), /^dir is a directory/],
    [409, 'is_a_directory', postFile(`/folders/upload?folder=${folder}`, 'dir'), /^dir is a directory/],
    [409, 'not_a_directory', get(`/folders/${folder}/content/a.txt/x`), /^a.txt\/x leads through/],
    [409, 'not_a_directory', postFile(`/folders/upload?folder=${folder}`, 'a.txt/x'), /^a.txt leads through/],
    [409, 'not_a_directory', get(`${files}?path=a.txt`), /^a.txt /],
    [409, 'entry_exists', postJson(`${files}/mkdir`, { path: 'a.txt' }), /^a.txt exists/],
    [409, 'directory_not_empty', postJson(`${files}/delete`, { paths: ['dir'] }), /^dir is a directory/],
    [404, 'entry_not_found', get(`/folders/${folder}/content/none`), /^none does not exist/],
  ]
  for (const [status, code, request, detail] of cases) {
    const problem = problemOf(t, await server.raw(request), code)
    t.match(problem, { status, code, detail }, `${code}: ${detail}`)
  }
})

t.test('requests that do not fit', async (t) => {
  const server = await startServer(t)
  const folder = await server.createFolder()
  const none = '00000000-0000-4000-8000-000000000000'
  const json = 'application/json'
  const cases: [number, string, string, RegExp][] = [
    [400, 'validation_failed', postJson('/folders', { colour: 'red' }), /body colour is not a known field/],
    [
      400,
      'validation_failed',
      postJson('/folders', { quota: { inodes: 1 } }),
      /body quota.inodes is not a known field/,
    ],
    [400, 'validation_failed', postJson('/folders', { id: 1 }), /body id must be string/],
    [400, 'validation_failed', postJson('/folders', { quota: { bytes: '5' } }), /body quota.bytes must be integer/],
    [400, 'validation_failed', postJson('/folders', { quota: { bytes: -1 } }), /body quota.bytes must be >= 0/],
    [400, 'validation_failed', postJson('/folders', { id: 'A'.repeat(36) }), /body id must be a UUID/],
    [400, 'validation_failed', postJson('/folders', []), /body must be object/],
    [400, 'validation_failed', postJson(`/folders/${folder}/files/move`, { from: 'a' }), /body must have to/],
    [400, 'validation_failed', get('/folders/not-a-uuid'), /params id must be a UUID/],
    [400, 'validation_failed', get(`/folders/${none.replace('4', 'A')}`), /params id must be a UUID in lower case/],
    [400, 'validation_failed', postJson('/folders', { id: none.replace('4', 'A') }), /body id .* in lower case/],
    [400, 'validation_failed', get('/folders?limit=1&limit=2'), /querystring limit must be given once/],
    [400, 'validation_failed', get(`/folders/${folder}/files?path=a&path=b`), /querystring path must be given once/],
    [400, 'validation_failed', get('/jobs?state=queued&state=running'), /querystring state must be given once/],
    [400, 'validation_failed', get('/folders?limit=one'), /querystring limit must be integer/],
    [400, 'validation_failed', postJson('/folders', { id: [none] }), /body id must be string/],
    [400, 'validation_failed', get(`/folders/${folder}/files/stat`), /querystring must have path/],
    [400, 'validation_failed', get(`/folders/${folder}/files?limit=0`), /querystring limit must be >= 1/],
    [400, 'validation_failed', get('/folders?colour=red'), /querystring colour is not a known field/],
    [400, 'invalid_cursor', get('/folders?cursor=!'), /cursor must be/],
    [404, 'volume_not_found', postJson('/folders', { volume: 'none' }), /volume none/],
    [404, 'volume_not_found', get('/volumes/none'), /volume none/],
    [404, 'vfolder_not_found', get(`/folders/${none}/files`), new RegExp(none)],
    [404, 'vfolder_not_found', postFile(`/folders/upload?folder=${none}`, 'a'), new RegExp(none)],
    [404, 'route_not_found', get('/nothing'), /GET \/nothing/],
    [400, 'malformed_json', post('/folders', json, '{"id":'), /not valid JSON/],
    [400, 'validation_failed', post(`/folders/${folder}/files/move`, json, ''), /body must have from/],
    [
      400,
      'validation_failed',
      post('/folders', json, '{"metadata":{"__proto__":{"a":1}}}'),
      /__proto__ must be absent/,
    ],
    [400, 'malformed_json', post('/folders', json, '{"metadata":{"__proto__":{"a":1}}'), /not valid JSON/],
    [415, 'unsupported_media_type', post('/folders', 'text/plain', '{}'), /must be application\/json/],
    [415, 'unsupported_media_type', post('/folders', 'application/xml', '<a/>'), /must be application\/json/],
    [415, 'unsupported_media_type', post('/folders', `${json}; Charset="utf-16"`, '{}'), /charset must be absent/],
    [
      413,
      'body_too_large',
      postJson('/folders', { metadata: { note: 'x'.repeat(1024 * 1024) } }),
      /limit of 1048576 bytes/,
    ],
  ]
  for (const [status, code, request, detail] of cases) {
    const what = `${code}: ${request.split('\r\n')[0]}`
    const problem = problemOf(t, await server.raw(request), what)
    t.match(problem, { status, code, detail }, what)
    if (code === 'validation_failed') t.hasProps(problem, ['field', 'rule', 'in'], what)
  }
  t.equal((await server.ask('GET', '/folders')).folders.length, 1, 'nothing was created')
})
