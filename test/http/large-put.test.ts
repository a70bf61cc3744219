import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { open, readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { digest, patternBytes } from '../../backends/conformance/bytes.ts'
import { eventually, type Files } from '../server.ts'
import { server } from '../shared-server.ts'

const MiB = 1024 ** 2
const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex')
const sign = (files: Files, path: string, more: object = {}) =>
  files.server.sign(files.folder, path, { operation: 'upload', ...more })

/** Sends a body in pieces, with pauses of a moment, and gives all of the answer. */
async function put(url: string, body: Buffer, pieceBytes: number, length: 'known' | 'unknown'): Promise<string> {
  const { host, hostname, port, pathname, search } = new URL(url)
  const socket = connect(Number(port), hostname)
  const answer = text(socket)
  const framing = length === 'known' ? `Content-Length: ${body.length}` : 'Transfer-Encoding: chunked'
  socket.write(`PUT ${pathname}${search} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${framing}\r\n\r\n`)
  for (let at = 0; at < body.length; at += pieceBytes) {
    const piece = body.subarray(at, at + pieceBytes)
    if (length === 'unknown') socket.write(`${piece.length.toString(16)}\r\n`)
    if (!socket.write(piece)) await once(socket, 'drain')
    if (length === 'unknown') socket.write('\r\n')
    if (at % 7 === 0) await sleep(1)
  }
  if (length === 'unknown') socket.write('0\r\n\r\n')
  return answer
}

t.test('large bodies of every rhythm, more at once than there are large buffers', async (t) => {
  const files = await server.files()
  const uploads = [1, 1000, 65_536, 100_003, MiB, 3 * MiB].flatMap((pieceBytes) =>
    (['known', 'unknown'] as const).flatMap((length) => [
      { pieceBytes, length, bytes: pieceBytes === 1 ? 5000 : 9 * MiB + pieceBytes },
      { pieceBytes, length, bytes: pieceBytes === 1 ? 0 : 2 * MiB },
    ]),
  )
  for (const round of [1, 2]) {
    await Promise.all(
      uploads.map(async ({ pieceBytes, length, bytes }, index) => {
        const content = patternBytes(bytes, `${round} ${index}`)
        const answer = await put(await sign(files, `${index}`), content, pieceBytes, length)
        const name = `${bytes} bytes in pieces of ${pieceBytes}, ${length}`
        t.match(answer, new RegExp(`^HTTP/1.1 20[01] .*"sha256":"${sha256(content)}"`, 's'), name)
        const response = await server.manager('GET', `/folders/${files.folder}/content/${index}`)
        t.equal(digest(Buffer.from(await response.arrayBuffer())), digest(content))
      }),
    )
  }
  await eventually(async () => (await server.staged()).length === 0 && (await server.openFiles()).length === 0)
})

t.test('what is over the limit is told of at once, though the client sends no more', async (t) => {
  const files = await server.files()
  const { host, hostname, port, pathname, search } = new URL(await sign(files, 'a', { maxBytes: 1000 }))
  const socket = connect(Number(port), hostname)
  socket.write(`PUT ${pathname}${search} HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n`)
  socket.write(`3e9\r\n${'x'.repeat(1001)}\r\n`)
  const [answer] = await Promise.race([once(socket, 'data'), sleep(5000, ['nothing'])])
  t.match(String(answer), /^HTTP\/1.1 413 .*"file_too_large"/s)
  socket.destroy()
  t.same(await readdir(files.mount), [])
})

t.test('a large file that is replaced is freed, but whoever reads it reads on', async (t) => {
  const files = await server.files()
  const url = await sign(files, 'large')
  const [before, after] = [patternBytes(20 * MiB, 'before'), patternBytes(20 * MiB, 'after')]
  t.match(await put(url, before, MiB, 'known'), /^HTTP\/1.1 201/)
  const reader = await open(join(files.mount, 'large'))
  t.teardown(() => reader.close())
  t.match(await put(url, after, MiB, 'known'), /^HTTP\/1.1 200/)
  await eventually(async () => (await reader.stat()).nlink === 0)
  t.equal(digest(await reader.readFile()), digest(before))
  t.same(await server.staged(), [])
  t.same(await files.usage(), { files: 1, bytes: after.length })
})
