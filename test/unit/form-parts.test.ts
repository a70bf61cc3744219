import t from 'tap'
import { readFormFiles } from '../../routes/form/files.ts'
import { readHead } from '../../routes/form/head.ts'
import { readParts } from '../../routes/form/parts.ts'

const boundary = 'a-boundary'
const disposition = 'Content-Disposition: form-data; name="f"; filename="a"'

/** As a request gives it: the memory of a chunk is used again when the next one is asked for. */
async function* inPieces(text: string, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < text.length; at += size) {
    const chunk = Buffer.from(text.slice(at, at + size), 'latin1')
    yield chunk
    chunk.fill('?')
  }
}

async function read(text: string, size: number) {
  const parts: { head: string | undefined; start: number; content: string }[] = []
  for await (const { head, start, content } of readParts(inPieces(text, size), boundary)) {
    let whole = ''
    for await (const chunk of content) whole += chunk.toString('latin1')
    parts.push({ head, start, content: whole })
  }
  return parts
}

t.test('a form in pieces of every size', async (t) => {
  const contents = ['hello', '', `\r\n--${boundary.slice(0, -1)}\r\n--\r\n\r`, '\r\n\r\n', 'x'.repeat(300)]
  const parts = contents.map((content) => `--${boundary} \t\r\nA: b\r\n${disposition}\r\n\r\n${content}\r\n`)
  const form = `a preamble --${boundary}\r\n${parts.join('')}--${boundary}--an epilogue\r\n--${boundary}\r\n`
  const found = new Set<string>()
  for (let size = 1; size <= form.length; size++) found.add(JSON.stringify(await read(form, size)))
  t.equal(found.size, 1, 'the same in pieces of every size')
  const [first] = await read(form, form.length)
  t.equal(first?.start, form.indexOf('hello'))
  t.same(
    (await read(form, 7)).map(({ head, content }) => [head, content]),
    contents.map((content) => [` \t\r\nA: b\r\n${disposition}`, content]),
  )
  t.same(await read('', 1), [])
  t.same(await read(`--${boundary}--`, 5), [])
  for (const cut of ['no form', `--${boundary}`, `--${boundary}\r\n${disposition}\r\n\r\nhello\r\n--${boundary}-`]) {
    await t.rejects(read(cut, 3), { code: 'malformed_multipart' })
  }
})

t.test('the head of a part', async (t) => {
  const file = { name: 'f', filename: 'a', isFile: true }
  t.same(readHead(`\r\n${disposition}`), file)
  t.same(readHead(` \t\r\ncontent-DISPOSITION:${disposition.slice(20)} \t\r\nX: 1\r\nX: 2`), file)
  t.same(readHead(`\r\n${disposition.replace('; f', ';\r\n\tf')}`), file, 'folded')
  t.match(readHead('\r\nContent-Disposition: form-data\r\nContent-Type: Application/Octet-Stream; a=b'), {
    isFile: true,
  })
  t.match(readHead('\r\nContent-Disposition: form-data; name="f"'), { name: 'f', isFile: false })
  for (const unreadable of [
    '',
    '\r\nX: 1',
    `-more\r\n${disposition}`,
    `\r\nnonsense\r\n${disposition}`,
    `\r\n${disposition}\nX: 1`,
    `\r\n${disposition}\r\n${disposition}`,
  ]) {
    t.equal(readHead(unreadable), undefined, unreadable)
  }
})

t.test('more parts than a form may have', async (t) => {
  const part = `--${boundary}\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\n\r\n`
  let piecesRead = 0
  async function* pieces(parts: number) {
    for await (const piece of inPieces(`${part.repeat(parts)}--${boundary}--`, part.length * 1000)) {
      piecesRead++
      yield piece
    }
  }
  const count = async () => {
    for await (const _ of readFormFiles(pieces(101_000), boundary));
  }
  await t.rejects(count(), { code: 'body_too_large', message: /no more than 100000 parts/ })
  t.equal(piecesRead, 101, 'it reads the 100,000, and refuses the next one')
})
