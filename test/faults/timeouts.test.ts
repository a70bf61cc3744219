import { once } from 'node:events'
import { truncate } from 'node:fs/promises'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { patternBytes } from '../../backends/conformance/bytes.ts'
import { eventually, managerToken, startServer } from '../server.ts'

const idle = 1000
const boundary = 'a-boundary'

t.test('what stands still is cut, what moves is not', async (t) => {
  const env = { IDLE_TIMEOUT_SECONDS: '1', HEADERS_TIMEOUT_SECONDS: '1' }
  const server = await startServer(t, { env })
  const files = await server.files()
  const { hostname, port } = new URL(server.url)
  const open = (bytes: string) => {
    const socket = connect(Number(port), hostname)
    socket.write(bytes)
    return socket
  }
  const uploadHead = (id: string, length: number) =>
    [
      `POST /folders/upload?folder=${files.folder} HTTP/1.1\r\nHost: x\r\nConnection: close`,
      `Authorization: Bearer ${managerToken}\r\nX-Backend-Request-ID: ${id}\r\nContent-Length: ${length}`,
      `Content-Type: multipart/form-data; boundary=${boundary}\r\n\r\n`,
    ].join('\r\n')
  const part = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="slow.txt"\r\n\r\n`
  const end = `\r\n--${boundary}--\r\n`

  await t.test('a connection without a request', async (t) => {
    const started = Date.now()
    await text(open(''))
    t.ok(Date.now() - started < 5 * idle)
  })

  await t.test('headers that do not come to an end, though bytes move', async (t) => {
    const socket = open('GET /livez HTTP/1.1\r\nHost: x\r\n')
    const ticks = setInterval(() => socket.write('X-More: a\r\n'), idle / 5)
    const answer = await text(socket)
    clearInterval(ticks)
    t.match(answer, 'HTTP/1.1 408 ')
    t.match(answer, '"code":"request_timeout"')
    t.match(answer, 'did not come to an end in time')
  })

  await t.test('an upload that stands still', async (t) => {
    const socket = open(`${uploadHead('stands-still', 1000)}${part}some`)
    await text(socket).catch(() => '')
    await server.logged(({ request_id, msg }) => request_id === 'stands-still' && msg === 'request aborted')
    await eventually(async () => (await server.staged()).length === 0)
    t.same(await files.ndjson(''), [])
  })

  await t.test('an upload that is slow but moves', async (t) => {
    const content = 'x'.repeat(20)
    const socket = open(`${uploadHead('slow', part.length + content.length + end.length)}${part}`)
    const answer = text(socket)
    for (const byte of content) {
      await sleep(idle / 5)
      socket.write(byte)
    }
    socket.write(end)
    t.match(await answer, 'HTTP/1.1 201 ')
    t.match(await files.stat('slow.txt'), { size: content.length })
  })

  await files.upload({ 'large.bin': 'x' })
  await truncate(join(files.mount, 'large.bin'), 64 * 1024 * 1024)
  const download = (id: string) =>
    open(
      `GET /folders/${files.folder}/content/large.bin HTTP/1.1\r\nHost: x\r\nX-Backend-Request-ID: ${id}\r\n` +
        `Connection: close\r\nAuthorization: Bearer ${managerToken}\r\n\r\n`,
    )

  await t.test('a download that nobody reads', async (t) => {
    const socket = download('not-read').pause()
    await server.logged(({ request_id, msg }) => request_id === 'not-read' && msg === 'request aborted')
    await eventually(async () => (await server.openFiles()).length === 0)
    socket.destroy()
    t.pass('was cut, and its file closed')
  })

  await t.test('a download that is slow but moves', async (t) => {
    const socket = download('slow-download').pause()
    const started = Date.now()
    let bytes = 0
    // Sixteen steps of 4 MiB: more than the buffers on the way hold.
    for await (const chunk of socket) {
      const step = 4 * 1024 * 1024
      if (Math.floor((bytes + chunk.length) / step) > Math.floor(bytes / step)) await sleep(idle / 4)
      bytes += chunk.length
    }
    t.ok(Date.now() - started > 3 * idle)
    t.ok(bytes > 64 * 1024 * 1024)
    await server.logged(({ request_id, msg }) => request_id === 'slow-download' && msg === 'request completed')
  })
})

t.test('what comes while the process stands still is not cut by the timers that are due', async (t) => {
  // More than it takes to answer those that keep the process busy.
  const idle = 5000
  const server = await startServer(t, { env: { IDLE_TIMEOUT_SECONDS: '5' } })
  const files = await server.files()
  await files.upload({ 'large.bin': 'x' })
  await truncate(join(files.mount, 'large.bin'), 64 * 1024 * 1024)
  const content = patternBytes(1024 * 1024)
  const half = content.length / 2
  const { hostname, port } = new URL(server.url)

  for (const round of [1, 2]) {
    const upload = request(await server.sign(files.folder, `${round}.bin`, { operation: 'upload' }), { method: 'PUT' })
    const uploaded = answerTo(upload.setHeader('content-length', content.length))
    upload.write(content.subarray(0, half))
    const downloaded = await answerTo(request(await server.sign(files.folder, 'large.bin')).end())
    const kept = connect(Number(port), hostname)
    kept.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(kept, 'data')
    // One that waits for the kernel would be given the bytes first.
    const busy = connect(Number(port), hostname).resume()
    busy.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(800))
    await sleep(100)

    server.process.kill('SIGSTOP')
    upload.end(content.subarray(half))
    kept.write('GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    const answered = text(kept)
    const received = bytesOf(downloaded)
    await sleep(1.2 * idle)
    server.process.kill('SIGCONT')

    t.equal((await uploaded).statusCode, 201)
    t.equal(await received, 64 * 1024 * 1024)
    t.match(await answered, 'HTTP/1.1 200 ')
    busy.destroy()
  }
})

async function answerTo(request: ClientRequest): Promise<IncomingMessage> {
  const [response] = await once(request, 'response')
  return response
}

async function bytesOf(stream: IncomingMessage): Promise<number> {
  let bytes = 0
  for await (const chunk of stream) bytes += chunk.length
  return bytes
}
