import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { appendFile, truncate, writeFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { eventually, type Server } from '../server.ts'
import { server } from '../shared-server.ts'
import { begin, read } from '../slow-client.ts'

const MiB = 1024 * 1024

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

async function bytesOf(url: string): Promise<Uint8Array> {
  return new Uint8Array(await (await fetch(url)).arrayBuffer())
}

async function slowDownload(server: Server, url: string, requestId: string): Promise<IncomingMessage> {
  const response = await begin(url, requestId)
  // Work of the service itself, such as a count, opens others.
  const isOpen = (await server.openFiles()).some((path) => path.endsWith('/large.bin'))
  if (!isOpen) throw new Error('the download is over before it was read')
  return response
}

t.test('large downloads', async (t) => {
  const folder = await server.createFolder()
  const file = join(await server.mountOf(folder), 'large.bin')
  const url = await server.sign(folder, 'large.bin')
  const content = randomBytes(64 * MiB)
  const closed = () => eventually(async () => (await server.openFiles()).length === 0)
  t.beforeEach(() => writeFile(file, content))
  // Nothing stays open, whatever happened.
  t.afterEach(closed)

  await t.test('come whole', async (t) => {
    const bytes = await bytesOf(url)
    t.equal(bytes.length, content.length)
    t.equal(sha256(bytes), sha256(content))
  })

  await t.test('many at once', async (t) => {
    const files = new Map<string, string>()
    for (const size of [0, 1, 1000, 64 * 1024, 64 * 1024 + 1, MiB, 2 * MiB + 1]) {
      const bytes = randomBytes(size)
      await writeFile(join(await server.mountOf(folder), `${size}.bin`), bytes)
      files.set(await server.sign(folder, `${size}.bin`), sha256(bytes))
    }
    const urls = Array.from({ length: 100 }, (_, index) => [...files.keys()][index % files.size]!)
    const hashes = await Promise.all(urls.map(async (url) => sha256(await bytesOf(url))))
    t.same(
      hashes,
      urls.map((url) => files.get(url)),
    )
    await closed()
    t.same(await server.openFiles(), [])
  })

  await t.test('a client that goes away', async (t) => {
    const response = await slowDownload(server, url, 'goes-away')
    response.destroy()
    const line = await server.logged((line) => line.request_id === 'goes-away' && line.msg === 'request aborted')
    t.equal(line.reason, 'the client went away')
    await closed()
    t.notOk(
      server.linesOf('goes-away').some(({ level }) => level >= 50),
      'which is no error of the service',
    )
  })

  await t.test('a hundred clients that go away', async (t) => {
    const responses = await Promise.all(
      Array.from({ length: 100 }, async () => {
        const [response]: IncomingMessage[] = await once(get(url, { agent: false }), 'response')
        return response!
      }),
    )
    t.ok((await server.openFiles()).length > 1)
    for (const response of responses) response.destroy()
    await closed()
    t.equal(sha256(await bytesOf(url)), sha256(content), 'and the next one is served')
  })

  await t.test('a file that is replaced meanwhile comes as it was', async (t) => {
    const response = await slowDownload(server, url, 'replaced')
    await server.upload(folder, { 'large.bin': 'a new file' })
    const { bytes, whole } = await read(response)
    t.ok(whole)
    t.equal(sha256(bytes), sha256(content))
    t.equal(Buffer.from(await bytesOf(url)).toString(), 'a new file')
  })

  await t.test('a file that is deleted meanwhile comes as it was', async (t) => {
    const response = await slowDownload(server, url, 'deleted')
    await server.ask('POST', `/folders/${folder}/files/delete`, { paths: ['large.bin'] })
    const { bytes, whole } = await read(response)
    t.ok(whole)
    t.equal(sha256(bytes), sha256(content))
  })

  await t.test('a file that grows meanwhile comes in the length that was said', async (t) => {
    const response = await slowDownload(server, url, 'grows')
    await appendFile(file, 'more')
    const { bytes, whole } = await read(response)
    t.ok(whole)
    t.equal(sha256(bytes), sha256(content))
  })

  await t.test('a file that is cut short meanwhile ends with a broken connection', async (t) => {
    const response = await slowDownload(server, url, 'cut-short')
    t.equal(response.headers['content-length'], String(content.length))
    await truncate(file, 1000)
    const { bytes, whole } = await read(response)
    t.notOk(whole, 'the client cannot take it for the whole file')
    t.ok(bytes.length < content.length)
    t.equal(sha256(bytes), sha256(content.subarray(0, bytes.length)), 'what came is right')
    const { err } = await server.logged(({ request_id, level }) => request_id === 'cut-short' && level === 50)
    t.match(err, { message: /large.bin became shorter while it was read/ })
    await server.logged(
      ({ request_id, reason }) => request_id === 'cut-short' && reason === 'the file could not be read to its end',
    )
  })
})
