import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, formOf, managerToken, startServer } from '../server.ts'
import { signTus } from '../tus.ts'

const asManager = { authorization: `Bearer ${managerToken}` }
const chunk = { 'tus-resumable': '1.0.0', 'content-type': 'application/offset+octet-stream' }

t.test('the OpenAPI document tells what is sent and answered', async (t) => {
  const server = await startServer(t)
  const document: Answer = await (await fetch(`${server.url}/openapi.json`)).json()
  const files = await server.files()
  const { folder } = files
  await files.upload({ 'dir/a.txt': 'hello' })

  /** The document must have the route, the body as it is sent, and the answer as it comes. */
  async function call(method: string, route: string, url: string, status: number, init: RequestInit = {}) {
    const operation = document.paths[route]?.[method.toLowerCase()]
    t.ok(operation, `${method} ${route} is there`)
    const request = new Request(url, { method, ...init })
    request.headers.set(requestIdHeader, 'as-the-document-says')
    const parameters = operation?.parameters.map((one: Answer) => resolve(document, one)) ?? []
    const fields = parameters.filter((one: Answer) => one.in === 'header')
    assertNamed(
      request.headers,
      fields.map((one: Answer) => one.name),
      `${method} ${route} reads`,
    )
    for (const { name, required } of fields) {
      if (required) t.ok(request.headers.has(name), `${method} ${route} needs ${name}`)
    }
    const sent = request.headers.get('content-type')
    const body = operation?.requestBody
    if (request.body !== null) t.ok(describes(body?.content, sent), `${method} ${route} takes ${sent}`)
    else t.notOk(body?.required, `${method} ${route} needs no body`)

    const response = await fetch(request)
    t.equal(response.status, status, `${method} ${route}`)
    const told = operation?.responses[status] ?? operation?.responses[`${String(status)[0]}XX`]
    const type = response.headers.get('content-type')
    const named = `${method} ${route} is answered ${status} with ${type}`
    assertNamed(response.headers, Object.keys(told?.headers ?? {}), named)
    t.equal(response.headers.get(requestIdHeader), 'as-the-document-says')
    if (type === null) t.ok(told, named)
    else t.ok(describes(told?.content, type), named)
    if ((await response.clone().arrayBuffer()).byteLength === 0 && method !== 'HEAD')
      t.notOk(told?.content, `${named}, empty`)
    return response
  }

  function assertNamed(headers: Headers, names: string[], what: string): void {
    const known = new Set([...unnamed, ...names.map((name) => name.toLowerCase())])
    t.same(
      [...headers.keys()].filter((name) => !known.has(name)),
      [],
      `${what} these headers`,
    )
  }

  await t.test('of a file', async () => {
    // A generated client encodes the slashes of a path parameter.
    const url = `${server.url}/folders/${folder}/content/${encodeURIComponent('dir/a.txt')}`
    const signed = await server.sign(folder, 'dir/a.txt')
    for (const [route, target] of [
      ['/folders/{id}/content/{path}', url],
      ['/download/{folder}/{path}', signed],
    ] as const) {
      const { headers } = await call('GET', route, target, 200, { headers: asManager })
      await call('HEAD', route, target, 200, { headers: asManager })
      await call('GET', route, target, 206, { headers: { ...asManager, range: 'bytes=1-2' } })
      await call('GET', route, target, 304, { headers: { ...asManager, 'if-none-match': headers.get('etag')! } })
      await call('GET', route, target, 416, { headers: { ...asManager, range: 'bytes=9-' } })
    }
    await call('GET', '/download/{folder}/{path}', await server.signArchive(folder), 200)
  })

  await t.test('of an upload', async () => {
    const put = await server.sign(folder, 'b.png', { operation: 'upload' })
    const png = { headers: { 'content-type': 'image/png' }, body: Buffer.from('x') }
    for (const status of [201, 200]) await call('PUT', '/upload/{folder}/{path}', put, status, png)
    const form = await server.sign(folder, 'dir', { operation: 'upload' })
    await call('POST', '/upload/{folder}/{path}', form, 201, { body: formOf({ 'c.txt': 'c' }) })
    const manager = { headers: asManager, body: formOf({ 'd.txt': 'd' }) }
    await call('POST', '/folders/upload', `${server.url}/folders/upload?folder=${folder}`, 201, manager)
  })

  await t.test('of a resumable upload', async () => {
    const [all, one] = ['/upload/tus', '/upload/tus/{upload}']
    const version = { 'tus-resumable': '1.0.0' }
    const tus = { ...version, 'upload-length': '3' }
    const signed = await signTus(files, 'e.txt')
    await call('POST', all, signed, 201, { headers: tus })
    const begun = await call('POST', all, signed, 201, { headers: { ...chunk, 'upload-length': '3' }, body: 'a' })
    const url = begun.headers.get('location')!
    await call('HEAD', one, url, 200, { headers: version })
    await call('PATCH', one, url, 204, { headers: { ...chunk, 'upload-offset': '1' }, body: 'b' })
    const override = (method: string) => ({ ...chunk, 'x-http-method-override': method, 'upload-offset': '2' })
    await call('POST', one, url, 200, { headers: override('HEAD') })
    await call('POST', one, url, 204, { headers: override('PATCH'), body: 'c' })
    await call('DELETE', one, url, 204, { headers: version })
    await call('HEAD', one, url, 404, { headers: version })
  })

  await t.test('of a body that is not needed', async (t) => {
    const { id }: Answer = await (
      await call('POST', '/folders', `${server.url}/folders`, 201, { headers: asManager })
    ).json()
    await call('POST', '/folders/{id}/clone', `${server.url}/folders/${id}/clone`, 202, { headers: asManager })
    for (const [route, method] of [
      ['/folders/{id}', 'patch'],
      ['/folders/{id}/files/mkdir', 'post'],
    ] as const) {
      t.ok(document.paths[route][method].requestBody.required, `${method} ${route} needs one`)
    }
  })

  await t.test('of readiness', async () => {
    await call('GET', '/readyz', `${server.url}/readyz`, 200)
    const root = join(server.dataDir, 'volumes/default')
    await rename(root, `${root}-away`)
    await call('GET', '/readyz', `${server.url}/readyz`, 503)
    const away = await call('GET', '/folders/{id}', `${server.url}/folders/${folder}`, 200, { headers: asManager })
    await away.arrayBuffer()
    const url = `${server.url}/folders/${folder}/files`
    const { headers } = await call('GET', '/folders/{id}/files', url, 503, { headers: asManager })
    t.equal(headers.get('retry-after'), '5')
  })

  for (const [path, operations] of Object.entries<Answer>(document.paths)) {
    const named = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name)
    for (const [method, { parameters: given, ...operation }] of Object.entries<Answer>(operations)) {
      const parameters = given.map((one: Answer) => resolve(document, one))
      const declared = parameters.filter((one: Answer) => one.in === 'path').map((one: Answer) => one.name)
      t.same(declared, named, `${method} ${path} has its parameters`)
      t.same(
        Object.keys(operation).filter((key) => key.startsWith('x-')),
        [],
        `${method} ${path} is plain OpenAPI`,
      )
    }
  }
})

/** What OpenAPI has other places for, and what any answer of HTTP may have. */
const unnamed = [
  'accept',
  'access-control-allow-origin',
  'access-control-expose-headers',
  'authorization',
  'cache-control',
  'connection',
  'content-length',
  'content-type',
  'date',
  'keep-alive',
  'transfer-encoding',
  'vary',
  'x-content-type-options',
]

function resolve(document: Answer, part: Answer): Answer {
  const path: string[] | undefined = part.$ref?.slice(2).split('/')
  return path === undefined ? part : path.reduce((found, name) => found[name], document)
}

function describes(content: object | undefined, type: string | null): boolean {
  return ['*/*', type?.split(';')[0] ?? ''].some((range) => content !== undefined && range in content)
}
