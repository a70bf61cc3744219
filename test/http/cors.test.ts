import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { startServer } from '../server.ts'
import { server } from '../shared-server.ts'

const readable = [
  requestIdHeader,
  'accept-ranges',
  'allow',
  'content-disposition',
  'content-length',
  'content-range',
  'etag',
  'last-modified',
  'location',
  'repr-digest',
  'retry-after',
  'tus-checksum-algorithm',
  'tus-extension',
  'tus-max-size',
  'tus-resumable',
  'tus-version',
  'upload-concat',
  'upload-defer-length',
  'upload-expires',
  'upload-length',
  'upload-metadata',
  'upload-offset',
]

/** The request that a browser sends before one with a header of its own. */
function preflight(url: string, origin: string): Promise<Response> {
  const headers = { origin, 'access-control-request-method': 'GET', 'access-control-request-headers': 'range,if-range' }
  return fetch(url, { method: 'OPTIONS', headers })
}

t.test('pages of any origin may use signed URLs', async (t) => {
  const folder = await server.createFolder()
  await server.upload(folder, { 'small.txt': 'hello', 'large.bin': new Uint8Array(300_000) })
  const [small, large] = [await server.sign(folder, 'small.txt'), await server.sign(folder, 'large.bin')]
  const origin = 'https://app.example'

  const asked = await preflight(small, origin)
  t.equal(asked.status, 204)
  t.equal(asked.headers.get('access-control-allow-origin'), '*')
  t.same(asked.headers.get('access-control-allow-methods')?.split(/, */).sort(), [
    'DELETE',
    'GET',
    'HEAD',
    'PATCH',
    'POST',
    'PUT',
  ])
  t.same(asked.headers.get('access-control-allow-headers')?.split(/, */), ['range', 'if-range'])
  t.ok(Number(asked.headers.get('access-control-max-age')) > 0)

  const answers: [number, string, Record<string, string>][] = [
    [200, small, {}],
    [200, large, {}],
    [206, large, { range: 'bytes=0-99999' }],
    [304, small, { 'if-none-match': '*' }],
    [400, `${server.url}/download/%ff`, {}],
    [400, `${server.url}/upload/%ff`, {}],
    [400, `${server.url}/download/no-uuid/a`, {}],
    [401, `${small}x`, {}],
    [404, `${server.url}/download/nothing`, {}],
    [416, small, { range: 'bytes=5-' }],
  ]
  for (const [status, url, headers] of answers) {
    const response = await fetch(url, { headers: { origin, ...headers } })
    await response.arrayBuffer()
    t.equal(response.status, status)
    t.equal(response.headers.get('access-control-allow-origin'), '*', `${status}: a page may read it`)
    const exposed = response.headers.get('access-control-expose-headers')?.toLowerCase().split(/, */)
    t.same(exposed?.sort(), [...readable].sort(), `${status}: with these headers`)
  }

  const { pathname, search } = new URL(small)
  const refusals: [status: number, target: string, fields: string][] = [
    [400, `${pathname}${search}&x=%zz`, ''],
    [417, pathname + search, 'Expect: something\r\n'],
    [501, pathname.replace('download', 'upload') + search, 'Transfer-Encoding: gzip, chunked\r\n'],
  ]
  for (const [status, target, fields] of refusals) {
    const head = `PUT ${target} HTTP/1.1\r\nHost: x\r\nOrigin: ${origin}\r\nConnection: close\r\n${fields}\r\n`
    const answer = await server.raw(head)
    t.equal(answer.status, status, 'refused before the hooks of a scope')
    t.equal(answer.headers.get('access-control-allow-origin'), '*', `${status}: a page may read it`)
    t.ok(answer.headers.has('access-control-expose-headers'))
  }

  const plain = await fetch(small, { method: 'OPTIONS' })
  t.equal(plain.status, 204, 'an OPTIONS that is no preflight')

  const others: [status: number, path: string][] = [
    [401, '/folders'],
    [401, `/folders/${folder}/files`],
    [204, '/livez'],
    [204, '/openapi.json'],
    [404, '/downloads'],
    [404, '/'],
    [400, '/%ff'],
  ]
  for (const [status, path] of others) {
    const asked = await preflight(server.url + path, origin)
    t.equal(asked.status, status, `OPTIONS ${path}`)
    const got = await server.manager('GET', path, undefined, { origin })
    for (const { headers } of [asked, got]) {
      t.equal(headers.get('access-control-allow-origin'), null, `${path} is not for pages`)
      t.equal(headers.get('access-control-allow-methods'), null)
    }
  }
})

t.test('CORS_ORIGINS limits that', async (t) => {
  const origins = ['https://one.example', 'http://localhost:3000']
  const server = await startServer(t, { env: { CORS_ORIGINS: origins.join(', ') } })
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'hello' })
  const signed = await server.sign(folder, 'a.txt')

  const get = (url: string, origin: string) => fetch(url, { headers: { origin } })
  const undecodable = (_url: string, origin: string) => get(`${server.url}/download/%ff`, origin)
  for (const ask of [preflight, get, undecodable]) {
    for (const origin of origins) {
      const { headers } = await ask(signed, origin)
      t.equal(headers.get('access-control-allow-origin'), origin)
      t.match(headers.get('vary'), /origin/i, 'a cache keeps them apart')
    }
    for (const origin of ['https://two.example', 'https://one.example.two.example', 'http://one.example', 'null']) {
      const { headers } = await ask(signed, origin)
      t.equal(headers.get('access-control-allow-origin'), null, origin)
    }
  }
  t.equal((await fetch(signed)).status, 200, 'who is no page does not care')
})
