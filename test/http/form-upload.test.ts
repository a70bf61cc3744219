import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { startCuttingProxy } from '../cutting-proxy.ts'
import { type Answer, eventually, formOf, startServer, temporaryDirectory } from '../server.ts'
import { server } from '../shared-server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)

function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

async function post(url: string, body: FormData | string): Promise<{ status: number; answer: Answer }> {
  const response = await fetch(url, { method: 'POST', body, headers: { [requestIdHeader]: 'a-form' } })
  t.equal(response.headers.get(requestIdHeader), 'a-form', `${response.status} has the request ID`)
  return { status: response.status, answer: await response.json() }
}

t.test('a form by a signed URL', async (t) => {
  const server = await startServer(t, { env: { UPLOAD_MAX_BYTES: '5000000' } })
  const files = await server.files()
  const sign = (path: string, more: object = {}) => server.sign(files.folder, path, { operation: 'upload', ...more })
  const url = await sign('in box')

  await t.test('puts its files below the path', async (t) => {
    const contents = {
      'a.txt': 'hello',
      'deep/er/ünï.txt': 'deep',
      'empty.txt': '',
      'b.bin': new Uint8Array(randomBytes(3_000_000)),
    }
    const { status, answer } = await post(url, formOf(contents))
    t.equal(status, 201)
    t.same(
      answer.files,
      Object.entries(contents).map(([name, content]) => ({
        path: `in box/${name}`,
        size: Buffer.byteLength(content),
        sha256: sha256(content),
      })),
    )
    for (const [name, content] of Object.entries(contents)) {
      t.equal(sha256(await readFile(join(files.mount, 'in box', name))), sha256(content))
    }
    t.match(await files.usage(), { files: 4 })
  })

  await t.test('one file, which becomes the path', async (t) => {
    const only = await sign('in box/only', { onlyFile: true })
    t.match(await post(only, formOf({ 'another name': 'x' })), {
      status: 201,
      answer: { files: [{ path: 'in box/only', size: 1 }] },
    })
    const several = { status: 400, answer: { code: 'validation_failed', rule: 'must be the only file' } }
    t.match(await post(only, formOf({ a: 'y', b: 'z' })), several)
    t.match(await (await fetch(only, { method: 'PUT', body: 'put' })).json(), { path: 'in box/only', size: 3 })
  })

  await t.test('what is refused', async (t) => {
    const field = new FormData()
    field.append('name', 'value')
    const refusals: [status: number, code: string, url: string, body: FormData | string][] = [
      [401, 'token_required', url.split('?')[0]!, formOf({ a: 'x' })],
      [401, 'token_invalid', `${url}x`, formOf({ a: 'x' })],
      [403, 'token_not_for_this', url.replace('in%20box', 'other'), formOf({ a: 'x' })],
      [415, 'unsupported_media_type', url, 'no form'],
      [400, 'validation_failed', url, field],
      [400, 'malformed_multipart', url, new FormData()],
      [400, 'malformed_multipart', url, formOf({ '': '' })],
      [400, 'validation_failed', url, formOf({ '': 'bytes without a name' })],
      [400, 'invalid_path', url, formOf({ '../a': 'x' })],
      [413, 'file_too_large', url, formOf({ a: new Uint8Array(5_000_001) })],
      [413, 'file_too_large', await sign('in box', { maxBytes: 10 }), formOf({ a: 'elevenbytes' })],
    ]
    for (const [status, code, target, body] of refusals) {
      t.match(await post(target, body), { status, answer: { code } }, `${status} ${code}`)
    }
    for (const type of ['text/plain', 'application/json', 'no type']) {
      const response = await fetch(url, { method: 'POST', body: '{"broken', headers: { 'content-type': type } })
      t.match(await response.json(), { status: 415, detail: 'Content-Type must be multipart/form-data.' }, type)
    }
    t.match(await (await fetch(url, { method: 'POST' })).json(), { status: 415, detail: /must be multipart/ }, 'none')
    t.match(await post(url, formOf({ first: 'x', '../second': 'y' })), {
      status: 400,
      answer: { files: [{ path: 'in box/first', size: 1, sha256: sha256('x') }] },
    })
  })

  await t.test('cut at random points', async (t) => {
    const before = await files.usage()
    const cut = await sign('cut')
    const proxy = await startCuttingProxy(t, { port: Number(new URL(url).port), mostBytes: 2_000_000 })
    const form = () => formOf({ 'large.bin': new Uint8Array(4_000_000) })
    const sent = Array.from({ length: 20 }, () => fetch(proxy.through(cut), { method: 'POST', body: form() }))
    t.ok((await Promise.allSettled(sent)).every(({ status }) => status === 'rejected'))
    await eventually(async () => (await server.staged()).length === 0 && (await server.openFiles()).length === 0)
    t.same(await files.usage(), before)
    t.notOk((await readdir(files.mount)).includes('cut'))
  })
})

t.test('an HTML form in Chromium', { timeout: 120_000, ...needing('chromium') }, async (t) => {
  const files = await server.files()
  const url = await server.sign(files.folder, 'from a browser', { operation: 'upload' })
  const script = await server.sign(files.folder, 'from a script.txt', { operation: 'upload' })
  // A page of another origin, that fills in its form and sends it; and one that stores a file by a PUT of its own.
  const pages: Record<string, string> = {
    '/form': `<form method="post" enctype="multipart/form-data" action="${url}">
        <input type="file" name="empty"><input type="file" name="f" multiple id="chosen"></form>
      <script>
        const files = new DataTransfer()
        files.items.add(new File(['hello'], 'a "quoted" ünï 😀.txt'))
        files.items.add(new File([new Uint8Array(1000000)], 'large.bin'))
        document.querySelector('#chosen').files = files.files
        document.querySelector('form').submit()
      </script>`,
    '/put': `<script>
        fetch(${JSON.stringify(script)}, { method: 'PUT', body: 'from a script', headers: { 'If-None-Match': '*' } })
          .then(async (response) => { document.title = response.headers.get('etag'); document.body.append(await response.text()) })
      </script><body></body>`,
  }
  const page = createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(pages[request.url!] ?? '')
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => page.once('listening', resolve))
  t.teardown(() => page.close())
  const address = page.address()
  const origin = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
  const profile = await temporaryDirectory(t)
  const visit = async (path: string) => {
    const options = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      `--user-data-dir=${profile}`,
    ]
    const { stdout } = await run('chromium', [
      ...options,
      '--virtual-time-budget=10000',
      '--dump-dom',
      `${origin}${path}`,
    ])
    return stdout
  }

  t.match(await visit('/form'), /"files":\[/, 'the browser shows the answer')
  const directory = join(files.mount, 'from a browser')
  t.same((await readdir(directory)).sort(), ['a "quoted" ünï 😀.txt', 'large.bin'])
  t.equal(await readFile(join(directory, 'a "quoted" ünï 😀.txt'), 'utf8'), 'hello')
  t.equal((await readFile(join(directory, 'large.bin'))).length, 1_000_000)

  t.match(await visit('/put'), /<title>"[\w-]+"<\/title>[\s\S]*from a script\.txt/)
  t.equal(await readFile(join(files.mount, 'from a script.txt'), 'utf8'), 'from a script')
})
