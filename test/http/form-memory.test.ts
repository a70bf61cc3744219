import { readFile } from 'node:fs/promises'
import t from 'tap'
import { type Answer, type Server, startServer } from '../server.ts'

const boundary = 'b'
const head = { 'content-type': `multipart/form-data; boundary=${boundary}` }

function formWith(parts: number, more = ''): Buffer {
  const part = `--${boundary}\r\nContent-Disposition: form-data; name=f; filename=""\r\n\r\n\r\n`
  return Buffer.from(`${part.repeat(parts)}${more}--${boundary}--\r\n`)
}

/** The most memory that the service has had. */
async function peakBytesOf({ process: { pid } }: Server): Promise<number> {
  const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kilobytes) * 1024
}

t.test('forms of as many parts as may be cost no memory for each', async (t) => {
  const server = await startServer(t)
  const url = await server.sign(await server.createFolder(), 'form', { operation: 'upload' })
  const post = async (body: Buffer): Promise<Answer> =>
    (await fetch(url, { method: 'POST', body: new Uint8Array(body), headers: head })).json()
  const last = `--${boundary}\r\nContent-Disposition: form-data; name=f; filename="last"\r\n\r\nhello\r\n`
  t.match(await post(formWith(10, last)), { files: [{ path: 'form/last', size: 5 }] })

  const before = await peakBytesOf(server)
  const form = formWith(99_999, last)
  for (const answer of await Promise.all([1, 2, 3, 4].map(() => post(form)))) {
    t.match(answer, { files: [{ path: 'form/last', size: 5 }] })
  }
  const grown = (await peakBytesOf(server)) - before
  t.ok(grown < 150_000_000, `${Math.round(grown / 1_000_000)} MB more`)

  t.match(await post(formWith(100_000, last)), { status: 413, code: 'body_too_large', detail: /100000 parts/ })
})

t.test('the paths of a form, which the answer names, are limited in all', async (t) => {
  const server = await startServer(t)
  const folder = await server.createFolder()
  const path = Array.from({ length: 15 }, () => 'd'.repeat(250)).join('/')
  const parts = Array.from(
    { length: 4500 },
    (_, at) => `--${boundary}\r\nContent-Disposition: form-data; name=f; filename=${at}\r\n\r\n\r\n`,
  )
  const body = `${parts.join('')}--${boundary}--\r\n`
  const url = await server.sign(folder, path, { operation: 'upload' })
  const response = await fetch(url, { method: 'POST', body, headers: head })
  t.match(await response.json(), { status: 413, code: 'body_too_large', detail: /16777216 bytes/ })
})
