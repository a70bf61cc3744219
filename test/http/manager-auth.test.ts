import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, eventually, type LogLine, managerToken, startServer, temporaryDirectory } from '../server.ts'

/** Checks that an answer is this problem, told with the ID that was sent. */
async function refused(t: Test, response: Response, status: number, code: string, what: string): Promise<void> {
  t.equal(response.status, status, what)
  const problem = await response.json()
  t.match(problem, { status, code, requestId: response.headers.get(requestIdHeader) }, what)
}

t.test('who has no manager token', async (t) => {
  const server = await startServer(t)
  const folder = await server.createFolder()
  const headers: [code: string, authorization: string | undefined][] = [
    ['token_required', undefined],
    ['token_required', ''],
    ['token_required', 'Bearer'],
    ['token_required', 'Bearer '],
    ['token_required', managerToken],
    ['token_required', `Basic ${btoa(`manager:${managerToken}`)}`],
    ['token_required', `Bearer ${managerToken} ${managerToken}`],
    ['token_invalid', 'Bearer x'],
    ['token_invalid', `Bearer ${managerToken}x`],
    ['token_invalid', `Bearer ${managerToken.slice(0, -1)}`],
    ['token_invalid', `Bearer ${managerToken.toUpperCase()}`],
    ['token_invalid', `Bearer ${managerToken},${managerToken}`],
  ]
  for (const [code, authorization] of headers) {
    const response = await fetch(`${server.url}/folders`, {
      headers: { [requestIdHeader]: 'without', ...(authorization !== undefined && { authorization }) },
    })
    await refused(t, response, 401, code, `${authorization}`)
    t.equal(response.headers.get('www-authenticate'), 'Bearer')
    t.equal(response.headers.get(requestIdHeader), 'without')
  }

  await t.test('gets nowhere', async (t) => {
    const { paths }: Answer = await (await fetch(`${server.url}/openapi.json`)).json()
    const free = ['/livez', '/readyz', '/metrics', '/download/{folder}/{*}']
    const calls = Object.entries<object>(paths)
      .filter(([path]) => !free.includes(path))
      .flatMap(([path, methods]) => Object.keys(methods).map((method) => [method.toUpperCase(), path] as const))
    t.ok(calls.length > 15, `${calls.length} calls need a token`)
    for (const [method, path] of calls) {
      if (path.startsWith('/upload/tus') && method === 'OPTIONS') continue // Tells what tus can do, to everybody.
      const url =
        server.url +
        path
          .replace(/\{(id|folder|upload)\}/, folder)
          .replace('{volume}', 'default')
          .replace('{*}', 'a')
      const response = await fetch(url, { method, headers: { 'tus-resumable': '1.0.0' } })
      t.ok([400, 401, 404].includes(response.status), `${method} ${path}: ${response.status}`)
      if (!path.startsWith('/upload/')) t.equal(response.status, 401, `${method} ${path}`)
      t.ok(response.headers.get(requestIdHeader))
      await response.arrayBuffer()
    }
    t.equal((await server.manager('GET', `/folders/${folder}`)).status, 200, 'the vfolder is still there')
  })

  t.equal((await fetch(`${server.url}/folders?token=${managerToken}`)).status, 401, 'a token in the URL is none')
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'Bearer  ']) {
    const headers = { authorization: `${scheme} ${managerToken}` }
    t.equal((await fetch(`${server.url}/folders`, { headers })).status, 200, `the scheme is ${scheme}`)
  }
  t.notOk(
    server.rawLines().some((line) => line.includes(managerToken)),
    'no token is in the log',
  )
})

t.test('several tokens are accepted, for rotation', async (t) => {
  const tokens = ['the-new-manager-token', 'the-old-manager-token']
  const server = await startServer(t, { env: { MANAGER_TOKENS: tokens.join(', ') } })
  for (const token of tokens) {
    const response = await fetch(`${server.url}/folders`, { headers: { authorization: `Bearer ${token}` } })
    t.equal(response.status, 200, token)
  }
  const both = await fetch(`${server.url}/folders`, { headers: { authorization: `Bearer ${tokens.join(',')}` } })
  await refused(t, both, 401, 'token_invalid', 'both at once')
})

t.test('without MANAGER_TOKENS one is generated', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const options = { dataDir, env: { MANAGER_TOKENS: '' } }
  const file = join(dataDir, 'manager-token')
  let server = await startServer(t, options)
  const token = (await readFile(file, 'utf8')).trim()
  t.match(token, /^[\w-]{43}$/)
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.ok(await server.logged((line) => line.file === file))
  t.notOk(server.rawLines().some((line) => line.includes(token)))

  const status = async (token: string) =>
    (await fetch(`${server.url}/folders`, { headers: { authorization: `Bearer ${token}` } })).status
  t.equal(await status(token), 200)
  t.equal(await status(managerToken), 401)

  await server.end()
  server = await startServer(t, options)
  t.equal(await status(token), 200, 'after a restart it is the same')

  await server.end()
  await writeFile(file, '')
  await t.rejects(startServer(t, options), { message: /ended with 1/ }, 'an empty file is no token')
})

t.test('two addresses', async (t) => {
  const server = await startServer(t, { env: { MANAGER_PORT: '0' } })
  t.not(server.managerUrl, server.url)
  const folder = await server.createFolder()
  await server.upload(folder, { 'a.txt': 'hello' })
  const signed = await server.sign(folder, 'a.txt')
  const headers = { authorization: `Bearer ${managerToken}`, [requestIdHeader]: 'two-addresses' }

  t.ok(signed.startsWith(`${server.url}/`), 'signed URLs lead to the public address')
  t.equal(await (await fetch(signed)).text(), 'hello')
  await refused(
    t,
    await fetch(signed.replace(server.url, server.managerUrl), { headers }),
    404,
    'route_not_found',
    'a signed URL at the address of the manager',
  )

  const operations = ['/livez', '/readyz', '/metrics', '/openapi.json', '/docs/']
  const manager = ['/volumes', '/folders', `/folders/${folder}`, `/folders/${folder}/content/a.txt`]
  for (const path of [...operations, ...manager]) {
    t.equal((await fetch(server.managerUrl + path, { headers })).status, 200, path)
    for (const headersSent of [headers, { [requestIdHeader]: 'two-addresses' }]) {
      const response = await fetch(server.url + path, { headers: headersSent })
      t.equal(response.headers.get(requestIdHeader), 'two-addresses')
      await refused(t, response, 404, 'route_not_found', `${path} at the public address`)
    }
  }
  for (const url of [server.url, server.managerUrl]) {
    const response = await fetch(`${url}/nothing`, { headers })
    t.equal(response.headers.get(requestIdHeader), 'two-addresses')
    await refused(t, response, 404, 'route_not_found', `nothing at ${url}`)
  }

  t.equal(await server.end(), 0, 'both addresses are closed')
  for (const url of [server.url, server.managerUrl]) await t.rejects(fetch(url), { message: 'fetch failed' })
})

t.test('the address of the manager', async (t) => {
  const server = await startServer(t, { env: { MANAGER_HOST: '127.0.0.2', MANAGER_PORT: '0' } })
  t.equal(new URL(server.managerUrl).hostname, '127.0.0.2')
  t.equal(new URL(server.url).hostname, '127.0.0.1')
  const { port } = new URL(server.managerUrl)
  await t.rejects(fetch(`http://127.0.0.1:${port}/livez`), { message: 'fetch failed' })
  t.equal((await server.manager('GET', '/folders')).status, 200)
})

t.test('the token is in no log, however closely one looks', async (t) => {
  const server = await startServer(t, { env: { LOG_LEVEL: 'trace' } })
  const folder = await server.createFolder()
  const cookie = 'session=of-a-browser'
  const send = (url: string, headers: Record<string, string>) => {
    const body = new FormData()
    body.append('file', new Blob(['content']), 'file')
    return fetch(url, { method: 'POST', body, headers: { cookie, ...headers } })
  }
  const manager = { authorization: `Bearer ${managerToken}` }
  t.equal((await send(`${server.managerUrl}/folders/upload?folder=${folder}`, manager)).status, 201)
  const signed = { operation: 'upload', paths: ['dir'] }
  const { url } = (await server.ask('POST', `/folders/${folder}/signed-urls`, signed)).signedUrls[0]
  t.equal((await send(url, { referer: url })).status, 201)
  const isAnswered = ({ msg, res }: LogLine) => msg === 'request completed' && (res as Answer).statusCode === 201
  await eventually(async () => server.lines().filter(isAnswered).length === 4)
  const log = server.rawLines().join('\n')
  for (const secret of [managerToken, cookie, new URL(url).searchParams.get('token')!]) t.notMatch(log, secret)
})
