import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { temporaryDirectory } from '../server.ts'
import { server } from '../shared-server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)
const modified = new Date('2024-02-29T12:34:56.789Z')

interface Part {
  type: string | undefined
  range: string | undefined
  bytes: Buffer
}

/** Reads multipart/byteranges (RFC 9110, section 14.6) as strictly as it is defined. */
function partsOf(body: Buffer, contentType: string): Part[] {
  const boundary = /^multipart\/byteranges; boundary=(\S+)$/.exec(contentType)![1]
  const text = body.toString('latin1')
  const [preamble, ...rest] = `\r\n${text}`.split(`\r\n--${boundary}`)
  if (preamble !== '' || !/^--(\r\n)?$/.test(rest.pop()!)) throw new Error('the body is not framed by its boundary')
  return rest.map((part) => {
    const end = part.indexOf('\r\n\r\n')
    const head = part.slice(0, end)
    return {
      type: /^content-type: (.*)$/im.exec(head)?.[1],
      range: /^content-range: (.*)$/im.exec(head)?.[1],
      bytes: Buffer.from(part.slice(end + 4), 'latin1'),
    }
  })
}

t.test('ranges', async (t) => {
  const folder = await server.createFolder()
  const mount = await server.mountOf(folder)
  const write = async (name: string, size: number) => {
    const bytes = randomBytes(size)
    await writeFile(join(mount, name), bytes)
    await utimes(join(mount, name), modified, modified)
    return { bytes, size, url: await server.sign(folder, name) }
  }
  const [small, large] = [await write('small.bin', 1000), await write('large.bin', 3_000_000)]
  const get = async (url: string, headers: Record<string, string>, method = 'GET') => {
    const response = await fetch(url, { method, headers })
    return { status: response.status, headers: response.headers, body: Buffer.from(await response.arrayBuffer()) }
  }

  for (const { bytes, size, url } of [small, large]) {
    await t.test(`one range of ${size} bytes`, async (t) => {
      const cases: [range: string, start: number, end: number][] = [
        ['bytes=0-0', 0, 1],
        ['bytes=0-99', 0, 100],
        ['bytes=500-', 500, size],
        [`bytes=${size - 1}-`, size - 1, size],
        ['bytes=-1', size - 1, size],
        ['bytes=-700', size - 700, size],
        [`bytes=-${size + 1}`, 0, size],
        [`bytes=10-${size * 2}`, 10, size],
        ['bytes=0-99999999999999999999999', 0, size],
        ['Bytes=5-6', 5, 7],
        ['bytes= 5-6 ', 5, 7],
        [`bytes=${size}-,5-6`, 5, 7],
      ]
      for (const [range, start, end] of cases) {
        const { status, headers, body } = await get(url, { range })
        t.equal(status, 206, range)
        t.equal(headers.get('content-range'), `bytes ${start}-${end - 1}/${size}`, range)
        t.equal(headers.get('content-length'), String(end - start), range)
        t.ok(headers.get('etag') && headers.get('last-modified'), 'with validators')
        t.ok(body.equals(bytes.subarray(start, end)), `${range}: the bytes`)
      }
    })

    await t.test(`several ranges of ${size} bytes`, async (t) => {
      const cases: [range: string, ...[start: number, end: number][]][] = [
        ['bytes=0-0,-1', [0, 1], [size - 1, size]],
        ['Bytes=,0-0, ,\t-1,', [0, 1], [size - 1, size]],
        ['bytes=500-599, 0-99', [500, 600], [0, 100]],
        [`bytes=1-${size / 2},${size}-,${size - 10}-`, [1, size / 2 + 1], [size - 10, size]],
        ['bytes=0-9,5-14', [0, 10], [5, 15]],
      ]
      for (const [range, ...expected] of cases) {
        const { status, headers, body } = await get(url, { range })
        t.equal(status, 206, range)
        t.equal(headers.get('content-range'), null, 'it is in the parts')
        t.equal(headers.get('content-length'), String(body.length), range)
        const parts = partsOf(body, headers.get('content-type')!)
        t.same(
          parts.map(({ type, range }) => [type, range]),
          expected.map(([start, end]) => ['application/octet-stream', `bytes ${start}-${end - 1}/${size}`]),
          range,
        )
        for (const [index, [start, end]] of expected.entries()) {
          t.ok(parts[index]!.bytes.equals(bytes.subarray(start, end)), `${range}: part ${index}`)
        }
      }
    })
  }

  await t.test('a Range that is malformed, excessive or not for this is ignored', async (t) => {
    const excessive = Array.from({ length: 65 }, (_, index) => `${index * 2}-${index * 2}`).join(',')
    const wrong = [
      '',
      '0-1',
      'bytes',
      'bytes=',
      'bytes=-',
      'bytes=, ,',
      'bytes=a-b',
      'bytes=5-4',
      'bytes=0-1,x',
      'bytes=1',
      'bytes=0x0-1',
    ]
    for (const range of [...wrong, 'bytes=--1', 'items=0-1', 'bytes=0-,0-', `bytes=${excessive}`]) {
      const { status, headers, body } = await get(small.url, { range })
      t.equal(status, 200, range)
      t.equal(headers.get('content-range'), null)
      t.ok(body.equals(small.bytes), range)
    }
    const head = await get(small.url, { range: 'bytes=0-1' }, 'HEAD')
    t.equal(head.status, 200, 'HEAD has no ranges')
    t.equal(head.headers.get('content-length'), '1000')
  })

  await t.test('a range outside the file', async (t) => {
    for (const range of [
      'bytes=1000-',
      'bytes=1000-1001',
      'bytes=5000-,6000-',
      'bytes=-0',
      'bytes=99999999999999999999-',
    ]) {
      const { status, headers, body } = await get(small.url, { range })
      t.equal(status, 416, range)
      t.equal(headers.get('content-range'), 'bytes */1000')
      t.equal(headers.get('content-disposition'), null, 'a problem is no file to save')
      const expected = { code: 'range_not_satisfiable', size: 1000, requestId: headers.get(requestIdHeader) }
      t.match(JSON.parse(body.toString()), expected)
    }
    const empty = await write('empty.bin', 0)
    t.equal((await get(empty.url, { range: 'bytes=0-' })).headers.get('content-range'), 'bytes */0')
    t.equal((await get(empty.url, { range: 'bytes=5-4' })).status, 200)
  })

  await t.test('If-Range', async (t) => {
    const etag = (await get(small.url, {})).headers.get('etag')!
    const cases: [status: number, ifRange: string][] = [
      [206, etag],
      [200, `W/${etag}`],
      [200, '"other"'],
      [206, 'Thu, 29 Feb 2024 12:34:56 GMT'],
      [200, 'Thu, 29 Feb 2024 12:34:55 GMT'],
      [200, 'Thu, 29 Feb 2024 12:34:57 GMT'],
      [200, 'nonsense'],
    ]
    for (const [status, ifRange] of cases) {
      const answer = await get(small.url, { range: 'bytes=0-9', 'if-range': ifRange })
      t.equal(answer.status, status, ifRange)
      t.ok(answer.body.equals(status === 206 ? small.bytes.subarray(0, 10) : small.bytes), ifRange)
    }
    // A file may change again within the second that its date stands for, as long as that is not over.
    const ahead = new Date(Date.now() + 3_600_000)
    const running = await write('running.bin', 1000)
    await utimes(join(mount, 'running.bin'), ahead, ahead)
    const answer = await get(running.url, { range: 'bytes=0-9', 'if-range': ahead.toUTCString() })
    t.equal(answer.headers.get('last-modified'), ahead.toUTCString())
    t.equal(answer.status, 200, 'a date that is not yet past is no strong validator')
    t.ok(answer.body.equals(running.bytes))

    const outside = await get(small.url, { range: 'bytes=5000-', 'if-range': '"other"' })
    t.equal(outside.status, 200, 'a range of another version is not outside this one')
  })

  await t.test('curl resumes', needing('curl'), async (t) => {
    const file = join(await temporaryDirectory(t), 'file')
    for (const had of [0, 1, 1_234_567, large.size - 1, large.size]) {
      await writeFile(file, large.bytes.subarray(0, had))
      await run('curl', ['-sSf', '-C', '-', '-o', file, large.url]).catch((error) => {
        // 22: there is nothing left to get, and the server says 416.
        if (had !== large.size || error.code !== 22) throw error
      })
      t.ok((await readFile(file)).equals(large.bytes), `after ${had} bytes`)
    }
  })
})
