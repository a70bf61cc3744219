import t from 'tap'
import { type Answer, managerToken, type RawAnswer, startServer } from '../server.ts'
import { server } from '../shared-server.ts'
import { signTus } from '../tus.ts'

/** Those that routes have, and some that none has. */
const tried = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND', 'QUERY', 'M-SEARCH']
const auth = `Authorization: Bearer ${managerToken}\r\n`
const trace = 'X-Backend-Request-ID: of-the-method\r\n'

function head(method: string, target: string, fields = ''): string {
  return `${method} ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${trace}${fields}\r\n`
}

function allowed({ headers }: RawAnswer): string[] {
  return (headers.get('allow') ?? '').split(', ').sort()
}

t.test('a path with another method', async (t) => {
  const folder = await server.createFolder()
  const document: Answer = await (await fetch(`${server.url}/openapi.json`)).json()
  const paths = { ...document.paths, '/openapi.json': { get: {} }, '/docs/static/{*}': { get: {} } }
  t.ok(Object.keys(paths).length > 25)

  for (const [path, operations] of Object.entries<Answer>(paths)) {
    const target = path
      .replace(/\{(id|folder|upload)\}/g, folder)
      .replace('{volume}', 'default')
      .replace('{scope}', 'someone')
      .replace('{*}', 'a/b')
    const own = Object.keys(operations).map((method) => method.toUpperCase())
    const methods = [...new Set([...own, ...(own.includes('GET') ? ['HEAD'] : []), 'OPTIONS'])].sort()
    const isManager = !/^\/(upload|download|livez|readyz|metrics|openapi|docs)/.test(path)
    const fields = isManager ? auth : ''

    await t.test(path, async (t) => {
      for (const method of tried.filter((one) => !methods.includes(one))) {
        const answer = await server.raw(head(method, target, fields))
        t.equal(answer.status, 405, method)
        t.same(allowed(answer), methods, `${method}: Allow`)
        t.equal(answer.headers.get('x-backend-request-id'), 'of-the-method', method)
        t.match(answer.headers.get('content-type'), 'application/problem+json', method)
        if (method === 'HEAD') t.equal(answer.body, '')
        else t.match(JSON.parse(answer.body), { code: 'method_not_allowed', status: 405 }, method)
      }
      const asked = await server.raw(head('OPTIONS', target, fields))
      t.match(asked, { status: 204, body: '' }, 'OPTIONS')
      t.same(allowed(asked), methods, 'OPTIONS: Allow')
      if (!isManager) return
      for (const method of ['OPTIONS', 'PROPFIND', 'TRACE']) {
        t.equal((await server.raw(head(method, target))).status, 401, `${method} without the token`)
      }
    })
  }

  await t.test('a body or a query is not looked at', async (t) => {
    const body = `${auth}Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{`
    t.equal((await server.raw(head('PUT', '/folders?x=1', body))).status, 405)
    const waiting = `${auth}Expect: 100-continue\r\nContent-Length: 1000000\r\n`
    t.equal((await server.raw(head('PUT', '/folders', waiting))).status, 405)
  })

  await t.test('an OPTIONS takes none', async (t) => {
    const bodies = ['Content-Length: 1\r\n\r\nx', 'Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n']
    const targets = ['/folders', '/livez', '/upload/tus', `/download/${folder}/a.txt`]
    for (const target of targets) {
      for (const body of bodies) {
        const { status, body: answer } = await server.raw(head('OPTIONS', target, auth + body))
        t.match([status, JSON.parse(answer)], [400, { code: 'validation_failed', in: 'body' }], target)
      }
      const nothing = `${auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`
      t.equal((await server.raw(head('OPTIONS', target, nothing))).status, 204, target)
    }
  })

  await t.test('what no route has stays 404', async (t) => {
    for (const target of [
      '/',
      '/nothing',
      '/foldersx',
      `/folders/${folder}/nothing`,
      '/download/x',
      '/upload/x',
      '/livez/',
    ]) {
      for (const method of ['GET', 'POST', 'PROPFIND', 'HEAD']) {
        t.equal((await server.raw(head(method, target, auth))).status, 404, `${method} ${target}`)
      }
    }
    t.equal((await server.raw(head('OPTIONS', '/nothing', auth))).status, 404)
  })

  await t.test('a method that nobody knows', async (t) => {
    const answer = await server.raw('FROBNICATE /folders HTTP/1.1\r\nHost: x\r\n\r\n')
    t.equal(answer.status, 501)
    t.equal(JSON.parse(answer.body).code, 'method_unknown')
    t.equal((await server.raw('FROBNICATE\r\n\r\n')).status, 400)
  })

  await t.test('pages of other origins can read it', async (t) => {
    const headers = { origin: 'https://app.example' }
    const signed = await server.sign(folder, 'a.txt')
    const refused = await fetch(signed, { method: 'DELETE', headers })
    t.equal(refused.status, 405)
    t.equal(refused.headers.get('access-control-allow-origin'), '*')
    t.match(refused.headers.get('access-control-expose-headers'), /\bAllow\b/)
    const tus = await signTus({ server, folder }, 'a')
    const got = await fetch(tus, { headers })
    t.match([got.status, got.headers.get('tus-resumable')], [405, '1.0.0'], 'also without the version of tus')
  })
})

t.test('at two addresses', async (t) => {
  const server = await startServer(t, { env: { MANAGER_PORT: '0' } })
  const folder = await server.createFolder()
  const signed = new URL(await server.sign(folder, 'a.txt'))
  const headers = { authorization: `Bearer ${managerToken}` }
  for (const method of ['PUT', 'OPTIONS']) {
    for (const path of ['/folders', '/livez', '/docs/static/x']) {
      t.equal((await fetch(server.url + path, { method, headers })).status, 404, `${method} ${path}`)
    }
    t.equal((await fetch(server.managerUrl + signed.pathname, { method, headers })).status, 404, method)
  }
  t.equal((await fetch(`${server.managerUrl}/folders`, { method: 'PUT', headers })).status, 405)
  t.equal((await fetch(signed, { method: 'PUT' })).status, 405)
})
