import t from 'tap'
import { Problem } from '../../lib/problems.ts'
import { readDisposition } from '../../routes/form/disposition.ts'

/** As the parser of a form gives it: one character for each byte. */
function read(field: string) {
  try {
    return readDisposition(Buffer.from(field).toString('latin1'))
  } catch (error) {
    if (error instanceof Problem) return error.code
    throw error
  }
}

t.test('what clients send for a name', async (t) => {
  const named: [client: string, field: string, filename: string][] = [
    ['curl, a browser, fetch', String.raw`form-data; name="f"; filename="a\b.txt"`, String.raw`a\b.txt`],
    ['the same, two backslashes', String.raw`form-data; name="f"; filename="a\\b.txt"`, String.raw`a\\b.txt`],
    ['the same, one at the end', String.raw`form-data; name="f"; filename="a\"`, 'a\\'],
    ['the same, a quote', 'form-data; name="f"; filename="%225%22 pipe.txt"', '"5" pipe.txt'],
    ['the same, line breaks', 'form-data; name="f"; filename="a%0D%0Ab"', 'a\r\nb'],
    ['the same, a percent sign', 'form-data; name="f"; filename="100%.txt %41 %0a"', '100%.txt %41 %0a'],
    [
      'the same, separators',
      'form-data; name="f"; filename="a; filename*=UTF-8\'\'b=c, d"',
      "a; filename*=UTF-8''b=c, d",
    ],
    ['the same, not ASCII', 'form-data; name="f"; filename="파일 \ufffd😀à"', '파일 \ufffd😀à'],
    ['the same, a byte order mark', 'form-data; name="f"; filename="\ufeffa"', '\ufeffa'],
    ['the same, tabs and other bytes', 'form-data; name="f"; filename="\ta\x01\x7f "', '\ta\x01\x7f '],
    ['the same, no file chosen', 'form-data; name="f"; filename=""', ''],
    ['requests before urllib3 1.25', 'form-data; name="f"; filename*=utf-8\'\'%C3%BC%22.txt', 'ü".txt'],
    ['.NET, PowerShell, RestSharp', "form-data; name=f; filename=a.txt; filename*=utf-8''a.txt", 'a.txt'],
    ['.NET, a space', 'form-data; name=f; filename="a b.txt"; filename*=utf-8\'\'a%20b.txt', 'a b.txt'],
    ['.NET, no filename*', 'form-data; name=f; filename=a%22b.txt', 'a%22b.txt'],
    ['.NET, not ASCII', 'form-data; name=f; filename="=?utf-8?B?w7w=?="; filename*=utf-8\'\'%C3%BC', 'ü'],
    [
      'escaped by backslashes',
      String.raw`form-data; name="f"; filename="\"5\" a\\b?"; filename*=UTF-8''%225%22%20a%5Cb%C3%BC`,
      '"5" a\\bü',
    ],
    ['Jersey', 'form-data; filename="a"; modification-date="Sat, 1 Jan 2022 00:00:00 GMT"; size=5; name="f"', 'a'],
    ['filename* first', 'form-data; filename*=UTF-8\'en\'b; filename="a"; name="f"', 'b'],
    ['case and empty elements', 'Form-Data;; NAME="f" ;\tFileName="a";', 'a'],
  ]
  for (const [client, field, filename] of named) t.same(read(field), { name: 'f', filename }, client)
  t.same(read('form-data; name="a field"'), { name: 'a field', filename: undefined })
  t.same(read('form-data; filename="a"'), { name: '', filename: 'a' })
  t.equal(read('attachment; name="f"; filename="a"'), undefined)
})

t.test('what could be read in two ways is refused', async (t) => {
  const refused = [
    String.raw`form-data; name="f"; filename="\"5\" pipe.txt"`,
    'form-data; name="f"; filename=""5" pipe.txt"',
    'form-data; name="f"; filename="a"b"',
    'form-data; name="f"; filename="a',
    'form-data; name="f"; filename=a b.txt',
    'form-data; name="f"; filename=ü',
    'form-data; name="f"; filename=',
    'form-data; name="f"; filename',
    'form-data; name="f"; filename = "a"',
    'form-data; name="f" filename="a"',
    'form-data; name="f"; filename="a"; filename="b"',
    'form-data; name="f"; filename="a"; FILENAME="a"',
    'form-data; name="f"; name="f"; filename="a"',
    "form-data; name=\"f\"; filename*=utf-8''a; filename*=utf-8''b",
    'form-data; name="f"; filename="a"; filename*=iso-8859-1\'\'%FC',
    'form-data; name="f"; filename="a"; filename*="utf-8\'\'a"',
    'form-data; name="f"; filename="a"; filename*=utf-8\'\'%4',
    'form-data; name="f"; filename="a"; filename*=a',
    'form-data; name="f"; filename="=?utf-8?B?w7wudHh0?="',
    'form-data; name="f"; filename="=?utf-8?Q?a?= =?UTF-8?q?b?="',
  ]
  for (const field of refused) t.equal(read(field), 'malformed_multipart', field)
  t.equal(read('form-data; name="f"; filename="a"; filename*=utf-8\'\'%FF'), 'invalid_path')
  t.throws(() => readDisposition('form-data; name="f"; filename="\xff"'), {
    code: 'invalid_path',
    members: { field: 'f' },
  })
})
