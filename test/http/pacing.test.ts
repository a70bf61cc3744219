import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { eventually, type Files, startServer } from '../server.ts'
import { server } from '../shared-server.ts'
import { begin } from '../slow-client.ts'

const KiB = 1024
const rate = 256 * KiB
const tusHeaders = { 'tus-resumable': '1.0.0', 'content-type': 'application/offset+octet-stream' }

const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(randomBytes(length))

const has = (body: Buffer, part: Uint8Array) => body.includes(Buffer.from(part))

/**
 * Checks that `work`, which moves so many bytes, takes the time that the rate gives it; a busy machine may need more.
 */
async function assertPaced(t: Test, what: string, moved: number, work: () => Promise<unknown>): Promise<void> {
  const started = performance.now()
  await work()
  const took = (performance.now() - started) / 1000
  const due = moved / rate
  // The last piece may be gone before its time is over.
  t.ok(took > due - 0.25, `${what}: ${took} s is not sooner than ${due} s`)
  t.ok(took < due + 10, `${what}: ${took} s is not much later than ${due} s`)
}

async function download(url: string, headers: Record<string, string> = {}): Promise<Buffer> {
  const response = await fetch(url, { headers })
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
  return Buffer.from(await response.arrayBuffer())
}

function sign(files: Files, path: string, more: object = {}): Promise<string> {
  return files.server.sign(files.folder, path, { bytesPerSecond: rate, ...more })
}

t.test('downloads by a URL with a rate', async (t) => {
  const files = await server.files()
  const content = bytes(384 * KiB)
  const small = bytes(32 * KiB)
  await files.upload({ 'large.bin': content, 'small.bin': small })
  const [whole, shared, ranges, several, smalls] = await Promise.all(
    ['large.bin', 'large.bin', 'large.bin', 'large.bin', 'small.bin'].map((path, at) =>
      sign(files, path, { expiresIn: 1000 + at }),
    ),
  )
  const archive = await server.signArchive(files.folder, [], { archive: 'tar', bytesPerSecond: rate })
  const { length } = await download(await server.signArchive(files.folder, [], { archive: 'tar' }))
  const unlimited = await server.sign(files.folder, 'large.bin')

  await Promise.all([
    assertPaced(t, 'whole', content.length, async () => t.ok((await download(whole!)).equals(content))),
    assertPaced(t, 'by two connections', 2 * content.length, () => Promise.all([download(shared!), download(shared!)])),
    assertPaced(t, 'in ranges', content.length, async () => {
      for (let start = 0; start < content.length; start += 64 * KiB) {
        const end = start + 64 * KiB
        const part = await download(ranges!, { range: `bytes=${start}-${end - 1}` })
        t.ok(part.equals(content.subarray(start, end)))
      }
    }),
    assertPaced(t, 'in several ranges at once', 300 * KiB, async () => {
      const body = await download(several!, { range: `bytes=0-${200 * KiB - 1},-${100 * KiB}` })
      t.ok(has(body, content.subarray(0, 200 * KiB)) && has(body, content.subarray(-100 * KiB)))
    }),
    assertPaced(t, 'small ones, again and again', 12 * small.length, async () => {
      for (let count = 0; count < 12; count++) t.ok((await download(smalls!)).equals(small))
    }),
    assertPaced(t, 'as an archive', length, async () => t.equal((await download(archive)).length, length)),
  ])

  await t.test('come evenly', async (t) => {
    const started = performance.now()
    const response = await fetch(await sign(files, 'large.bin'))
    let received = 0
    for await (const chunk of response.body!) {
      received += chunk.length
      const seconds = (performance.now() - started) / 1000
      t.ok(received <= rate * (seconds + 0.25), `${received} bytes in ${seconds} s`)
    }
    t.equal(received, content.length)
  })

  await t.test('and without one at once', async (t) => {
    const started = performance.now()
    for (let count = 0; count < 10; count++) t.ok((await download(unlimited)).equals(content))
    t.ok((performance.now() - started) / 1000 < (10 * content.length) / rate)
  })

  await t.test('end when the client goes away', async (t) => {
    const slow = await server.sign(files.folder, 'large.bin', { bytesPerSecond: KiB })
    const response = await begin(slow, 'goes-away')
    response.destroy()
    await server.logged(({ request_id, msg }) => request_id === 'goes-away' && msg === 'request aborted')
    await eventually(async () => (await server.openFiles()).length === 0)
    t.notOk(server.linesOf('goes-away').some(({ level }) => level >= 50))
  })

  await t.test('are refused when the rate is less than a KiB', async (t) => {
    const body = { operation: 'download', paths: ['large.bin'], bytesPerSecond: KiB - 1 }
    const response = await server.manager('POST', `/folders/${files.folder}/signed-urls`, body)
    t.match([response.status, await response.json()], [400, { code: 'validation_failed', field: 'bytesPerSecond' }])
  })
})

t.test('uploads by a URL with a rate', async (t) => {
  const files = await server.files()
  const content = bytes(384 * KiB)
  const [put, form, tusUrl] = await Promise.all(
    ['put', 'form', 'tus'].map((path) => sign(files, path, { operation: 'upload' })),
  )
  const begun = `${server.url}/upload/tus?token=${new URL(tusUrl!).searchParams.get('token')}`

  /** A part with the POST that begins the upload, and the rest with a PATCH. */
  async function tus(): Promise<void> {
    const headers = { ...tusHeaders, 'upload-length': `${content.length}` }
    const created = await fetch(begun, { method: 'POST', headers, body: content.subarray(0, 128 * KiB) })
    t.equal(created.headers.get('upload-offset'), String(128 * KiB))
    const patched = await fetch(created.headers.get('location')!, {
      method: 'PATCH',
      headers: { ...tusHeaders, 'upload-offset': String(128 * KiB) },
      body: content.subarray(128 * KiB),
    })
    t.equal(patched.status, 204)
  }

  await Promise.all([
    assertPaced(t, 'PUT', content.length, async () => {
      t.match(await fetch(put!, { method: 'PUT', body: content }), { status: 201 })
    }),
    assertPaced(t, 'a form', content.length, async () => {
      const body = new FormData()
      for (const at of [0, 1, 2]) body.append('file', new Blob([content.subarray(0, 128 * KiB)]), `${at}`)
      t.match(await fetch(form!, { method: 'POST', body }), { status: 201 })
    }),
    assertPaced(t, 'tus, two uploads at once', 2 * content.length, () => Promise.all([tus(), tus()])),
  ])
  for (const path of ['put', 'tus']) t.match(await files.stat(path), { size: content.length })

  await t.test('let go when another request goes on with them', async (t) => {
    const slow = await sign(files, 'slow', { operation: 'upload', bytesPerSecond: KiB })
    const url = `${server.url}/upload/tus?token=${new URL(slow).searchParams.get('token')}`
    const headers = { 'tus-resumable': '1.0.0', 'upload-length': `${content.length}` }
    const created = await fetch(url, { method: 'POST', headers })
    const location = created.headers.get('location')!
    const patched = fetch(location, {
      method: 'PATCH',
      headers: { ...tusHeaders, 'upload-offset': '0', [requestIdHeader]: 'asked' },
      body: content,
    })
    await eventually(async () => (await server.openFiles()).length === 1)
    const head = await fetch(location, { method: 'HEAD', headers: { 'tus-resumable': '1.0.0' } })
    t.match([(await patched).status, await (await patched).json()], [409, { code: 'upload_interrupted' }])
    const offset = Number(head.headers.get('upload-offset') ?? Number.NaN)
    t.ok(offset < content.length / 2, `${offset} bytes are there`)
  })
})

t.test('a connection that the rate holds back is not idle', async (t) => {
  const server = await startServer(t, { env: { IDLE_TIMEOUT_SECONDS: '1' } })
  const files = await server.files()
  const content = bytes(256 * KiB)
  await files.upload({ 'a.txt': content.subarray(0, 150) })

  await Promise.all([
    t.test('of an upload', async (t) => {
      const url = await sign(files, 'slow.bin', { operation: 'upload', bytesPerSecond: 64 * KiB })
      const started = performance.now()
      const response = await fetch(url, { method: 'PUT', body: content })
      t.equal(response.status, 201)
      t.ok(performance.now() - started > 3500)
      t.match(await files.stat('slow.bin'), { size: content.length })
    }),
    t.test('of many downloads that share it', async (t) => {
      const url = await sign(files, 'a.txt', { bytesPerSecond: KiB })
      const bodies = await Promise.all(Array.from({ length: 25 }, () => download(url)))
      t.ok(bodies.every((body) => body.equals(content.subarray(0, 150))))
    }),
    t.test('but one whose client sends nothing is', async (t) => {
      const { hostname, port, pathname, search } = new URL(
        await sign(files, 'nothing', { operation: 'upload', bytesPerSecond: 64 * KiB }),
      )
      const socket = connect(Number(port), hostname)
      socket.write(`PUT ${pathname}${search} HTTP/1.1\r\nHost: x\r\n${requestIdHeader}: nothing\r\n`)
      socket.write('Content-Length: 1000\r\n\r\nsome')
      t.equal(await text(socket).catch(() => ''), '')
      const { reason } = await server.logged(
        ({ request_id, msg }) => request_id === 'nothing' && msg === 'request aborted',
      )
      t.equal(reason, 'no byte moved for too long')
    }),
  ])
})
