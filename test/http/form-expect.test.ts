import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { managerToken, startServer } from '../server.ts'

const start = '--b\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n'
const end = '\r\n--b--\r\n'
const server = await startServer(t, { env: { UPLOAD_MAX_BYTES: '50000000' } })

/** Sends the headers of a form, and its body only once it is told to. */
async function postForm(url: string, contentBytes: number): Promise<{ asked: boolean; answer: string }> {
  const { hostname, port, pathname, search } = new URL(url)
  const socket = connect(Number(port), hostname)
  const length = start.length + contentBytes + end.length
  socket.write(
    `POST ${pathname}${search} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${managerToken}\r\n` +
      `Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: ${length}\r\n\r\n`,
  )
  const [first] = await once(socket, 'data')
  const asked = String(first).startsWith('HTTP/1.1 100 ')
  if (asked) socket.write(Buffer.concat([Buffer.from(start), Buffer.alloc(contentBytes, 1), Buffer.from(end)]))
  return { asked, answer: String(first) + (await text(socket)) }
}

t.test('a form that waits is refused for its size before it is sent', async (t) => {
  const folder = await server.createFolder()
  const limited = await server.createFolder({ quota: { bytes: 1000 } })
  await server.ask('PUT', '/quota-scopes/small', { bytes: 1000 })
  const scoped = await server.createFolder({ quotaScope: 'small' })
  const signed = (id: string, more: object = {}) => server.sign(id, 'dir', { operation: 'upload', ...more })
  const asManager = (id: string) => `${server.url}/folders/upload?folder=${id}`
  const cases: [string, string, number, RegExp][] = [
    [
      'maxBytes',
      await signed(folder, { maxBytes: 1000 }),
      10_000_000,
      /413 [\s\S]*"code":"file_too_large"[\s\S]*"maxBytes":1000/,
    ],
    ['UPLOAD_MAX_BYTES', await signed(folder), 60_000_000, /413 [\s\S]*"file_too_large"/],
    ['UPLOAD_MAX_BYTES, the manager', asManager(folder), 60_000_000, /413 [\s\S]*"file_too_large"/],
    ['quota', await signed(limited), 10_000_000, /507 [\s\S]*"quota_exceeded"[\s\S]*"quota":1000/],
    ['quota, the manager', asManager(limited), 10_000_000, /507 [\s\S]*"quota_exceeded"/],
    ['quota scope', asManager(scoped), 10_000_000, /507 [\s\S]*"quotaScope"/],
  ]
  for (const [what, url, bytes, expected] of cases) {
    const { asked, answer } = await postForm(url, bytes)
    t.match({ asked, answer }, { asked: false, answer: expected }, what)
  }

  await server.upload(limited, { 'f.txt': 'f', 'd/a.txt': 'a' })
  const onlyFile = await server.sign(limited, 'd', { operation: 'upload', onlyFile: true })
  for (const [what, url, expected] of [
    ['a file in the place of its directory', `${asManager(limited)}&path=f.txt`, /409 [\s\S]*"not_a_directory"/],
    ['one above that', `${asManager(limited)}&path=f.txt/d`, /409 [\s\S]*"not_a_directory"/],
    ['the same by a signed URL', await server.sign(limited, 'f.txt', { operation: 'upload' }), /409 /],
    ['a directory in the place of its file', onlyFile, /409 [\s\S]*"is_a_directory"/],
  ] as const) {
    t.match(await postForm(url, 10), { asked: false, answer: expected }, what)
  }
  t.match(await postForm(`${asManager(limited)}&path=d`, 10), { asked: true, answer: /201 Created/ }, 'a directory')

  const fits = await postForm(await signed(folder, { maxBytes: 1_000_000 }), 1_000_000)
  t.match(fits, { asked: true, answer: /201 Created/ }, 'what just fits')
  const over = await postForm(await signed(folder, { maxBytes: 1_000_000 }), 1_000_001)
  t.match(over.answer, /file_too_large/, 'what is just over, though only once it is sent')
})

t.test('one that may replace what is there is let through', async (t) => {
  const folder = await server.createFolder({ quota: { bytes: 1_000_000 } })
  await server.upload(folder, { 'a.bin': new Uint8Array(900_000) })
  const url = `${server.url}/folders/upload?folder=${folder}`
  t.match(await postForm(url, 950_000), { asked: true, answer: /201 Created/ })
  t.match(await postForm(url, 1_200_000), { asked: false, answer: /quota_exceeded/ })
  t.match((await server.ask('GET', `/folders/${folder}`)).usage, { files: 1, bytes: 950_000 })
})

t.test('JSON that is too large is refused before it is sent', async (t) => {
  const { hostname, port } = new URL(server.url)
  const socket = connect(Number(port), hostname)
  socket.write(
    `POST /folders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${managerToken}\r\n` +
      'Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 20000000\r\n\r\n',
  )
  t.match(await text(socket), /^HTTP\/1.1 413 [\s\S]*"body_too_large"/)
})
