import { execFileSync } from 'node:child_process'
import { cpSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type Answer, ended, startServer, type Teardown, temporaryDirectory } from '../server.ts'

const program = fileURLToPath(new URL('../../examples/command-rest/array.mjs', import.meta.url))

/** The array that the example speaks to: it remembers limits, and counts what is in a directory when it is asked. */
async function startArray(t: Teardown, root: string) {
  const quotas = new Map<string, { id: number; hardBytes: number | null; hardFiles: number | null }>()
  const requests: { call: string; requestId: unknown; token: unknown }[] = []
  let refusal: number | undefined
  let looks = 0

  const amountOf = (path: string) => {
    const files = readdirSync(join(root, path), { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    )
    const sizes = files.map(({ parentPath, name }) => statSync(join(parentPath, name)).size)
    return { usedFiles: files.length, usedBytes: sizes.reduce((sum, size) => sum + size, 0) }
  }
  const answer = (method: string, url: URL, body: Record<string, unknown>): object | undefined => {
    const { hardBytes = null, hardFiles = null } = body as { hardBytes?: number | null; hardFiles?: number | null }
    const path = String(method === 'GET' ? url.searchParams.get('path') : body.path)
    const [, kind, id] = url.pathname.split('/')
    if (kind === 'quotas' && method === 'POST') quotas.set(path, { id: quotas.size + 1, hardBytes, hardFiles })
    if (kind === 'quotas' && method === 'PATCH') {
      const known = [...quotas].find(([, quota]) => String(quota.id) === id)
      if (known !== undefined) quotas.set(known[0], { id: known[1].id, hardBytes, hardFiles })
    }
    if (kind === 'quotas') {
      const quota = quotas.get(path)
      return quota && { ...quota, ...amountOf(path) }
    }
    if (kind === 'clones') cpSync(join(root, String(body.from)), join(root, String(body.to)), { recursive: true })
    return { id: 7, state: kind === 'clones' || looks++ === 0 ? 'running' : 'done' }
  }

  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request
    const body = method === 'POST' || method === 'PATCH' ? ((await json(request)) as Record<string, unknown>) : {}
    requests.push({
      call: `${method} ${url.replace(/\?.*/, '')}`,
      requestId: headers['x-request-id'],
      token: headers.authorization,
    })
    const answered = refusal === undefined ? answer(method, new URL(url, 'http://array'), body) : undefined
    response.writeHead(refusal ?? (answered === undefined ? 404 : 200)).end(JSON.stringify(answered ?? {}))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    quotas,
    requests,
    refuse(status: number | undefined) {
      refusal = status
    },
  }
}

t.test('a volume whose array is asked by the program of the example', async (t) => {
  const root = await temporaryDirectory(t)
  const array = await startArray(t, root)
  const token = join(await temporaryDirectory(t), 'token')
  writeFileSync(token, 'the-token\n')
  const command = [program, array.url, token, root]
  const volume = { backend: 'command', root, commands: { quota: command, usage: command, clone: command } }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify({ array: volume }) } })
  const { volumes } = await server.ask('GET', '/volumes')
  for (const capability of ['quota', 'usage', 'clone']) t.ok(volumes[0].capabilities.includes(capability), capability)

  const create = await server.manager(
    'POST',
    '/folders',
    { quota: { bytes: 1000, files: 5 } },
    { 'X-Backend-Request-ID': 'create-1' },
  )
  const { id: folder }: Answer = await create.json()
  t.match([...array.quotas.values()], [{ hardBytes: 1000, hardFiles: 5 }])
  t.match(
    array.requests.find(({ call }) => call === 'POST /quotas'),
    { requestId: 'create-1', token: 'Bearer the-token' },
  )
  await server.ask('PATCH', `/folders/${folder}`, { quota: { bytes: 2000 } })
  t.match([...array.quotas.values()], [{ hardBytes: 2000, hardFiles: 5 }])

  await server.upload(folder, { 'dir/a': 'content', b: 'more' })
  writeFileSync(join(await server.mountOf(folder), 'past'), 'the service')
  await ended(server, (await server.ask('POST', `/folders/${folder}/sync`)).job.id)
  t.match((await server.ask('GET', `/folders/${folder}`)).usage, { files: 3, bytes: 22 })

  const clone = await server.ask('POST', `/folders/${folder}/clone`)
  t.match(await ended(server, clone.job.id), { state: 'succeeded' })
  t.equal(
    execFileSync('diff', ['-r', await server.mountOf(folder), await server.mountOf(clone.folder.id)], {
      encoding: 'utf8',
    }),
    '',
  )
  t.match((await server.ask('GET', `/folders/${clone.folder.id}`)).usage, { files: 3, bytes: 22 })

  const change = async (requestId: string) => {
    const response = await server.manager(
      'PATCH',
      `/folders/${folder}`,
      { quota: { bytes: 3000 } },
      { 'X-Backend-Request-ID': requestId },
    )
    return response.json()
  }
  array.refuse(401)
  t.match(await change('refused-1'), {
    status: 503,
    code: 'storage_access_denied',
    detail: /the array refuses the token/,
  })
  array.refuse(500)
  t.match(await change('broken-1'), {
    status: 503,
    code: 'storage_tool_failed',
    detail: /the quota command ended with status 1/,
  })
  const line = await server.logged(
    ({ msg, request_id }) => msg === 'storage command failed' && request_id === 'broken-1',
  )
  t.match(line, { volume: 'array', operation: 'quota', status: 1, stderr: /GET \/quotas.*: 500/ })
  array.refuse(undefined)
  t.match(await change('fine-1'), { quota: { bytes: 3000 } })
  t.equal(await server.end(), 0)
})

t.test('a program that cannot be run stops the start', async (t) => {
  const root = await temporaryDirectory(t)
  const volume = { backend: 'command', root, commands: { usage: ['/no/such/program'] } }
  const message = /VOLUMES\/array cannot be used: commands\/usage names \/no\/such\/program, which cannot be found/
  await t.rejects(startServer(t, { env: { VOLUMES: JSON.stringify({ array: volume }) } }), { message })
  const unfit = { ...volume, commands: { usage: '/bin/true' } }
  await t.rejects(startServer(t, { env: { VOLUMES: JSON.stringify({ array: unfit }) } }), {
    message: /VOLUMES\/array\/commands\/usage must be array/,
  })
})
