import { truncate } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { eventually, startServer } from '../server.ts'
import { begin, read } from '../slow-client.ts'

const MiB = 1024 * 1024
const tusHeaders = { 'tus-resumable': '1.0.0' }
const patchHeaders = { ...tusHeaders, 'content-type': 'application/offset+octet-stream', 'upload-offset': '0' }

t.test('a process moves bytes for so many clients at once', async (t) => {
  const server = await startServer(t, { env: { MAX_TRANSFERS: '2' } })
  const files = await server.files()
  await files.upload({ 'large.bin': '', 'small.txt': 'small' })
  await truncate(join(files.mount, 'large.bin'), 32 * MiB)
  const sign = (path: string, more: object = {}) => server.sign(files.folder, path, more)
  const large = await sign('large.bin')
  const small = await sign('small.txt')
  const directory = await sign('forms', { operation: 'upload' })
  const archive = await server.signArchive(files.folder, ['small.txt'], { archive: 'tar' })
  const upload = await sign('uploaded', { operation: 'upload' })
  const tusUrl = `${server.url}/upload/tus?token=${new URL(upload).searchParams.get('token')}`
  const createUpload = async () => {
    const headers = { ...tusHeaders, 'upload-length': '10' }
    return (await fetch(tusUrl, { method: 'POST', headers })).headers.get('location')!
  }

  /** A PUT whose body does not come to its end, once there is a place for it. */
  function beginPut(requestId: string): Promise<Socket> {
    const { hostname, port, pathname, search } = new URL(upload)
    const head = `PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\n${requestIdHeader}: ${requestId}\r\n`
    return eventually(async () => {
      const socket = connect(Number(port), hostname).resume()
      socket.write(`${head}Content-Length: 1000\r\n\r\nsome`)
      await eventually(async () => socket.bytesRead > 0 || (await server.staged()).length === 1)
      if (socket.bytesRead === 0) return socket
      socket.destroy()
      return undefined
    })
  }

  const form = () => {
    const body = new FormData()
    body.append('file', new Blob(['x']), 'from-a-form')
    return body
  }
  /** Everything that moves bytes. */
  const transfers = async (): Promise<[what: string, url: string, init: RequestInit][]> => [
    ['a download', small, {}],
    ['a range', small, { headers: { range: 'bytes=0-1' } }],
    ['an archive', archive, {}],
    ['a PUT', upload, { method: 'PUT', body: 'x' }],
    ['a form', directory, { method: 'POST', body: form() }],
    [
      'tus, created with bytes',
      tusUrl,
      { method: 'POST', body: 'x', headers: { ...patchHeaders, 'upload-length': '1' } },
    ],
    ['tus', await createUpload(), { method: 'PATCH', body: 'x', headers: patchHeaders }],
    [
      'tus by another method',
      await createUpload(),
      { method: 'POST', body: 'x', headers: { ...patchHeaders, 'x-http-method-override': 'PATCH' } },
    ],
  ]

  /** Takes both places, as soon as both are free. */
  function beginTwo(): Promise<IncomingMessage[]> {
    return eventually(async () => {
      const begun = [await begin(large, 'one'), await begin(large, 'two')]
      if (begun.every(({ statusCode }) => statusCode === 200)) return begun
      for (const response of begun) response.destroy()
      return undefined
    })
  }

  async function assertBothFree(): Promise<void> {
    const responses = await beginTwo()
    t.equal((await fetch(small)).status, 503, 'two are open, and no third')
    for (const response of responses) response.destroy()
  }

  let open: IncomingMessage[] = []
  t.beforeEach(async () => {
    open = await beginTwo()
  })
  t.afterEach(() => {
    for (const response of open) response.destroy()
  })

  await t.test('and refuses the next one, whatever it is', async (t) => {
    for (const [what, url, init] of await transfers()) {
      const headers = { [requestIdHeader]: 'one-too-many', ...init.headers }
      const response = await fetch(url, { ...init, headers })
      t.equal(response.status, 503, what)
      t.match(await response.json(), { code: 'too_many_transfers', maxTransfers: 2, requestId: 'one-too-many' })
      t.match(response.headers.get('retry-after'), /^[1-9]\d*$/)
      t.equal(response.headers.get(requestIdHeader), 'one-too-many')
    }
    const refused = server.linesOf('one-too-many').filter(({ code }) => code === 'too_many_transfers')
    t.ok(refused.length > 0)
    t.ok(
      refused.every(({ level }) => level === 30),
      'which is no error of the service',
    )
    t.same(await files.ndjson(''), ['large.bin', 'small.txt'], 'nothing was stored')
  })

  await t.test('before a byte of the body is sent', async (t) => {
    const { pathname, search } = new URL(upload)
    const head = `PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`
    const { status } = await server.raw(`${head}Expect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n`)
    t.equal(status, 503, 'is the first thing that is answered')
  })

  await t.test('but lets through what moves none', async (t) => {
    for (const url of [small, archive]) t.equal((await fetch(url, { method: 'HEAD' })).status, 200)
    const location = await createUpload()
    t.ok(location)
    const by = async (method: string, url = location) => (await fetch(url, { method, headers: tusHeaders })).status
    t.equal(await by('HEAD'), 200)
    t.equal(await by('OPTIONS', tusUrl), 204)
    t.equal(await by('DELETE'), 204)
  })

  await t.test('and serves the manager', async (t) => {
    const content = await server.manager('GET', `/folders/${files.folder}/content/small.txt`)
    t.equal(await content.text(), 'small')
    await files.upload({ 'from-the-manager': 'x' })
    t.match((await files.post('delete', { paths: ['from-the-manager'] }))[0], 200)
  })

  await t.test('until one is through', async () => {
    for (const response of open) await read(response)
    await assertBothFree()
  })

  await t.test('or given up', async () => {
    for (const response of open) response.destroy()
    await assertBothFree()
  })

  await t.test('or broken', async () => {
    await truncate(join(files.mount, 'large.bin'), 1000)
    for (const response of open) t.notOk((await read(response)).whole)
    await truncate(join(files.mount, 'large.bin'), 32 * MiB)
    await assertBothFree()
  })

  await t.test('of uploads too', async (t) => {
    for (const response of open) response.destroy()
    const socket = await beginPut('cut-put')
    socket.destroy()
    await server.logged(({ request_id, msg }) => request_id === 'cut-put' && msg === 'request aborted')
    await assertBothFree()
    for (const [what, url, init] of await transfers()) {
      const response = await eventually(async () => {
        const response = await fetch(url, init)
        return response.status !== 503 && response
      })
      t.ok(response.ok, what)
      await response.arrayBuffer()
    }
    await assertBothFree()
  })
})
