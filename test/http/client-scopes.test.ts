import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Answer, type Server, startServer, temporaryDirectory } from '../server.ts'

const open = ['OPTIONS /download/*', 'OPTIONS /upload/*', 'OPTIONS /upload/tus', 'OPTIONS /upload/tus/:upload']

/** Starts the service with a plugin that runs `statements` on its root `app`, before there are any routes. */
async function startWith(t: Test, statements: string): Promise<Server> {
  const file = join(await temporaryDirectory(t), 'plugin.mjs')
  await writeFile(
    file,
    `const plugin = async (app) => {
      app.backends.register({
        type: 'none', options: { type: 'object', additionalProperties: false }, create: async () => {},
      })
      ${statements}
    }
    plugin[Symbol.for('skip-override')] = true
    export default plugin`,
  )
  return startServer(t, { env: { BACKEND_PLUGINS: file } })
}

/** A request that lacks nothing but a token. */
function callWithoutToken(server: Server, method: string, route: string): Promise<Response> {
  const path = route.replace(':folder', randomUUID()).replace(':upload', randomUUID()).replace('*', 'a.txt')
  const isForm = method === 'POST' && route === '/upload/:folder/*'
  const headers = {
    'tus-resumable': '1.0.0',
    'x-http-method-override': 'PATCH',
    ...(isForm && { 'content-type': 'multipart/form-data; boundary=b' }),
  }
  return fetch(server.url + path, { method, headers })
}

t.test('no route of a client answers without a token', async (t) => {
  const server = await startWith(
    t,
    `app.addHook('onRoute', ({ method, url, config }) => {
      if (!config?.tellsMethods) app.log.info({ methods: [method].flat(), url }, 'a route')
    })`,
  )
  const routes = server
    .lines()
    .filter(({ msg }) => msg === 'a route')
    .flatMap(({ methods, url }: Answer): [string, string][] => methods.map((method: string) => [method, url]))
    .filter(([, url]) => /^\/(download|upload)\//.test(url))
  const names = routes.map(([method, url]) => `${method} ${url}`)
  t.ok(names.length > 10, `there are ${names.length}`)

  for (const [method, url] of routes) {
    const name = `${method} ${url}`
    const response = await callWithoutToken(server, method, url)
    const text = await response.text()
    t.equal(response.status, open.includes(name) ? 204 : 401, name)
    if (text !== '') t.equal(JSON.parse(text).code, 'token_required', name)
  }
  for (const name of open) t.ok(names.includes(name), `${name} is there`)

  const unknown = { 'tus-resumable': '1.0.0', 'x-http-method-override': 'PUT' }
  const refused = await fetch(`${server.url}/upload/tus/${randomUUID()}`, { method: 'POST', headers: unknown })
  t.match(await refused.json(), { status: 400, code: 'invalid_header' }, 'another method')
})

t.test('a route without a guard fails the start', async (t) => {
  for (const [prefix, method, path] of [
    ['/download/', 'GET', 'rogue'],
    ['/download/', ['GET', 'HEAD'], ':folder/rogue/*'],
    ['/upload/', 'POST', 'tus/rogue'],
    ['/upload/', 'OPTIONS', 'rogue'],
  ] as const) {
    const route = `{ method: ${JSON.stringify(method)}, url: '${path}', handler: async () => 'open to the world' }`
    const started = startWith(
      t,
      `app.addHook('onRegister', (scope, { prefix }) => { if (prefix === '${prefix}') scope.route(${route}) })`,
    )
    const named = [method].flat().map((one) => `${one} ${prefix}${path}`)
    const sentence = `Error: ${named.join(', ')} must be in a scope with a guard of routes/client/scopes.ts`
    await t.rejects(started, { message: sentence }, `${named}`)
  }
})
