import { createHmac } from 'node:crypto'
import { rename } from 'node:fs/promises'
import t from 'tap'
import { authHeader, backendAiSecret, send, startBackendAi } from '../backend-ai.ts'
import { type Answer, eventually, managerToken } from '../server.ts'

const tokenSecret = 'a-secret-that-another-proxy-has-too'
const scope = 'user:00000000-0000-0000-0000-000000000007'
const hex = 'f9bbd38b04fb4eb382da7902bd4eb8a0'
const vfid = `${scope}/${hex}`
const folder = { volume: 'volume1', vfid }

t.test("Backend.AI's wire at addresses of its own", async (t) => {
  const server = await startBackendAi(t, {
    MANAGER_PORT: '0',
    BACKEND_AI_MANAGER_PORT: '0',
    BACKEND_AI_CLIENT_PORT: '0',
    BACKEND_AI_TOKEN_SECRET: tokenSecret,
  })
  const urlOf = (who: string) =>
    new RegExp(`Backend.AI's ${who} heard at (http://[^"]+)`).exec(server.rawLines().join('\n'))![1]!
  const manager = urlOf('manager is')
  const clients = urlOf('clients are')
  const auth = { [authHeader]: backendAiSecret }
  const call = (method: string, path: string, body?: unknown, headers = {}) =>
    send(method, manager + path, body, { ...auth, ...headers })

  await t.test('each address has what it is for, and nothing else', async (t) => {
    t.match((await send('GET', `${manager}/`)).json, { type: 'manager-facing' })
    t.match((await send('GET', `${clients}/`)).json, { type: 'client-facing' })
    t.match((await call('GET', '/volumes')).json, {
      volumes: [{ name: 'volume1', fsprefix: '.' }, { name: 'volume2' }],
    })
    for (const path of ['/health', '/livez', '/readyz']) {
      const { status, json } = await send('GET', manager + path)
      t.match(
        [status, json],
        [200, { status: 'ok', component: 'storage-proxy', connectivity: { overall_healthy: true } }],
      )
      t.match(json.connectivity.connectivity_checks[1], { service_group: 'volume', component_id: 'volume1' })
      t.equal((await send('GET', clients + path)).status, 404)
    }
    for (const path of ['/folders', '/metrics', '/openapi.json', '/backend-ai/volumes', '//folders']) {
      const { status, headers } = await send('GET', manager + path, undefined, {
        ...auth,
        authorization: `Bearer ${managerToken}`,
      })
      t.same([status, headers['content-type']], [404, 'application/problem+json'], path)
    }
    t.equal((await send('GET', `${clients}/volumes`, undefined, auth)).status, 404, 'the manager is not heard there')
    for (const url of [server.url, server.managerUrl]) {
      t.equal((await send('GET', `${url}/backend-ai/volumes`, undefined, auth)).status, 404)
    }
    const own = await send('GET', `${server.managerUrl}/volumes`, undefined, {
      authorization: `Bearer ${managerToken}`,
    })
    t.match(own.json, { volumes: [{ name: 'volume1', backend: 'posix' }, {}] }, 'our own API is where it was')
  })

  await t.test('a body with a GET is taken there, and nowhere else', async (t) => {
    t.equal((await call('GET', '/volume/hwinfo', { volume: 'volume1' })).status, 200)
    t.equal((await call('GET', '/volumes', {})).status, 400)
    const bearer = { authorization: `Bearer ${managerToken}` }
    for (const [method, path] of [
      ['GET', '/volumes'],
      ['GET', '/livez'],
      ['DELETE', '/quota-scopes/nobody'],
    ] as const) {
      const { status, json } = await send(method, server.managerUrl + path, { volume: 'volume1' }, bearer)
      t.match([status, json], [400, { code: 'validation_failed', in: 'body' }], path)
    }
  })

  await t.test('the request ID', async (t) => {
    const theirs = 'x-backendai-requestid'
    const ours = 'x-backend-request-id'
    const idsOf = async (headers: Record<string, string>) => {
      const { headers: sent } = await call('GET', '/volumes', undefined, headers)
      return [sent[ours], sent[theirs]]
    }
    t.same(await idsOf({ [theirs]: 'theirs-1' }), ['theirs-1', 'theirs-1'])
    t.same(await idsOf({ [ours]: 'ours-1' }), ['ours-1', 'ours-1'])
    t.same(await idsOf({ [ours]: 'ours-2', [theirs]: 'theirs-2' }), ['ours-2', 'theirs-2'])
    await server.logged((line) => line.request_id === 'ours-2' && line.msg === 'request completed')
    t.match(server.linesOf('ours-2'), [
      { msg: 'incoming request', backend_ai_request_id: 'theirs-2' },
      { msg: 'request completed', backend_ai_request_id: 'theirs-2' },
    ])
    t.notMatch(server.rawLines().join('\n'), /backend_ai_request_id.*backend_ai_request_id/, 'no line has it twice')
    t.ok(server.linesOf('theirs-1').length >= 2)
    const [replaced, echoed] = await idsOf({ [theirs]: 'not a fitting one' })
    t.equal(replaced, echoed)
    t.match(replaced, /^[0-9a-f-]{36}$/)
    await server.logged((line) => line.request_id === replaced && line.msg === 'request completed')
    t.match(
      server.linesOf(String(replaced)).map((line) => line.msg),
      ['incoming request', 'request ID does not fit the rule and was replaced', 'request completed'],
    )
    const failed = await call('GET', '/volume/hwinfo', { volume: 'nope' }, { [theirs]: 'theirs-3' })
    t.same([failed.status, failed.headers[ours], failed.headers[theirs]], [400, 'theirs-3', 'theirs-3'])
    const elsewhere = await send('GET', `${server.managerUrl}/livez`, undefined, { [theirs]: 'theirs-4' })
    t.not(elsewhere.headers[ours], 'theirs-4', 'our own API has one name for it')
    t.notOk(elsewhere.headers[theirs])
  })

  await t.test('tokens are those of Backend.AI', async (t) => {
    t.equal((await call('POST', '/folder/create', folder)).status, 204)
    const { token } = (await call('POST', '/folder/file/upload', { ...folder, relpath: './a//b.txt', size: '11' })).json
    const claims = claimsOf(token)
    t.match(claims, { op: 'upload', volume: 'volume1', vfid, relpath: 'a/b.txt', size: 11, session: /^[0-9a-f]{32}$/ })
    t.ok(Math.abs(claims.exp - Date.now() / 1000 - 86_400) < 60)
    const request = { ...folder, relpath: 'a/../c.txt' }
    const download = await call('POST', '/folder/file/download', request, { 'x-backend-request-id': 'signed-1' })
    t.match(claimsOf(download.json.token), { op: 'download', vfid, relpath: 'c.txt', request_id: 'signed-1' })
    const archive = { volume: 'volume1', virtual_folder_id: vfid, files: ['./a', 'b/'], filename: 'x y.zip' }
    t.match(claimsOf((await call('POST', '/folder/file/archive-download-token', archive)).json.token), {
      operation: 'download',
      virtual_folder_id: vfid,
      files: ['a', 'b'],
      filename: 'x y.zip',
    })
    const many = { ...archive, files: Array.from({ length: 1000 }, (_, at) => `directory/file-${at}`) }
    t.match((await call('POST', '/folder/file/archive-download-token', many)).status, 400)
    t.notOk(server.rawLines().some((line) => line.includes(token)))
  })

  await t.test('a vfid is understood in the forms that Python takes, and refused in every other', async (t) => {
    const usage = (name: unknown) => call('GET', '/folder/usage', { volume: 'volume1', vfid: name })
    for (const same of [vfid.toUpperCase().replace('USER', 'User'), `${scope.replaceAll('-', '')}/${hex}`]) {
      t.equal((await usage(same)).status, 200, same)
    }
    const uuid = hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
    t.equal((await usage(`${scope}/${uuid}`)).status, 200)
    const wrong = ['', 'x', scope, `${scope}/`, `/${hex}`, `${hex}/${scope}`, `${scope}/${hex}/`, `${scope}/${hex}/..`]
    const more = [`group:${scope.slice(5)}/${hex}`, `user:7/${hex}`, `${scope}/${hex.slice(1)}`, `${scope}/${hex}0`]
    const odd = [`${scope}/../${hex}`, ` ${vfid}`, `${vfid}\n`, `${scope}/${hex.replace('f', 'g')}`, `${scope}//${hex}`]
    for (const name of [...wrong, ...more, ...odd, 5, null, [vfid], {}]) {
      const { status, json } = await usage(name)
      t.match([status, json], [400, { type: /invalid-api-params$/, data: { vfid: /^must / } }], JSON.stringify(name))
    }
    const others = [hex, vfid.replace('user', 'project'), vfid.replace('0007', '0008')]
    for (const name of others) {
      const { status, json } = await usage(name)
      t.match([status, json], [404, { error_code: 'vfolder_read_not-found' }], `${name} is another one`)
    }
    t.equal((await call('GET', '/folder/usage', { volume: 'volume2', vfid })).status, 404, 'it is on the other volume')
    for (const [name, body] of Object.entries({
      src_vfid: { src_vfid: 'x', dst_vfid: vfid },
      dst_vfid: { src_vfid: vfid, dst_vfid: 'x' },
    })) {
      t.match((await call('POST', '/folder/clone', { src_volume: 'volume1', ...body })).json.data, { [name]: /^must / })
    }
  })

  await t.test('a volume that is away', async (t) => {
    const { path } = (await call('GET', '/volumes')).json.volumes[0]
    await rename(path, `${path}-away`)
    const unready = await eventually(async () => {
      const answer = await send('GET', `${manager}/readyz`)
      return answer.status === 503 && answer
    })
    const unwell = { connectivity: { overall_healthy: false } }
    t.match(unready.json, { status: 'error', ...unwell })
    for (const probe of ['/health', '/livez']) {
      const { status, json } = await send('GET', manager + probe)
      t.match([status, json], [200, { status: 'degraded', ...unwell }], probe)
    }
    await rename(`${path}-away`, path)
  })
})

/** As another holder of the secret reads it (RFC 7519). */
function claimsOf(token: string): Answer {
  const [head, payload, mac] = token.split('.')
  const expected = createHmac('sha256', tokenSecret).update(`${head}.${payload}`).digest('base64url')
  if (mac !== expected) throw new Error('the token is not signed by the secret')
  return JSON.parse(Buffer.from(payload!, 'base64url').toString())
}
