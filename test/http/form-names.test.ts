import { execFile } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { type Answer, formOf, managerToken, temporaryDirectory } from '../server.ts'
import { server } from '../shared-server.ts'
import { needing } from '../tools.ts'

const run = promisify(execFile)
const boundary = 'a-boundary'

/** Each byte that a name may have, alone, and what a parser could stumble over. */
const names = [
  ...Array.from({ length: 255 }, (_, at) => `x${String.fromCharCode(at + 1)}y`).filter((name) => !name.includes('/')),
  ...[
    'a\\b',
    'a\\\\b',
    'a\\"b',
    '\\',
    'ends\\',
    '"5" pipe.txt',
    '\\"',
    '100%',
    '%41',
    '%0a',
    'a%',
    "UTF-8''a",
    '=?',
    ' a ',
    '\ta',
  ],
  ...[
    'a; filename="b',
    "a; filename*=utf-8''b",
    'a=b',
    '\ufeffa',
    '\ufffd',
    '파일 😀',
    'e\u0301',
    '\u2028',
    '--',
    '&#252;',
  ],
]

async function assertStored(t: Test, folder: string, directory: string) {
  const place = join(await server.mountOf(folder), directory)
  t.same((await readdir(place)).sort(), [...names].sort())
  for (const name of names) t.equal(await readFile(join(place, name), 'utf8'), name)
}

async function post(url: string, head: string, type = `multipart/form-data; boundary=${boundary}`) {
  const body = Buffer.from(`--${boundary}\r\n${head}\r\n\r\nhello\r\n--${boundary}--\r\n`)
  const response = await fetch(url, { method: 'POST', body, headers: { 'content-type': type } })
  return { status: response.status, answer: (await response.json()) as Answer }
}

t.test('a name comes through as it is', async (t) => {
  const folder = await server.createFolder()
  const signed = (path: string) => server.sign(folder, path, { operation: 'upload' })

  await t.test('from fetch', async (t) => {
    const form = formOf(Object.fromEntries(names.map((name) => [name, name])))
    t.equal((await fetch(await signed('fetch'), { method: 'POST', body: form })).status, 201)
    await assertStored(t, folder, 'fetch')
  })

  await t.test('from curl', needing('curl'), async (t) => {
    const directory = await temporaryDirectory(t)
    for (const name of names) await writeFile(join(directory, name), name)
    const parts = names.flatMap((name) => ['-F', `file=@"${name.replaceAll(/["\\]/g, '\\$&')}"`])
    const { stdout } = await run('curl', ['-sS', await signed('curl'), ...parts], { cwd: directory })
    t.equal(JSON.parse(stdout).files?.length, names.length)
    await assertStored(t, folder, 'curl')
  })

  await t.test('from the form of Chromium', { timeout: 120_000, ...needing('chromium') }, async (t) => {
    const profile = await temporaryDirectory(t)
    const page = join(profile, 'page.html')
    await writeFile(
      page,
      `<meta charset="utf-8"><form method="post" enctype="multipart/form-data" action="${await signed('chromium')}">
        <input type="file" name="f" multiple></form>
      <script>
        const chosen = new DataTransfer()
        for (const name of ${JSON.stringify(names).replaceAll('<', '\\u003c')}) chosen.items.add(new File([name], name))
        document.querySelector('input').files = chosen.files
        document.querySelector('form').submit()
      </script>`,
    )
    const options = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-dev-shm-usage',
      `--user-data-dir=${profile}`,
    ]
    await run('chromium', [...options, '--virtual-time-budget=10000', '--dump-dom', `file://${page}`])
    await assertStored(t, folder, 'chromium')
  })
})

t.test('two names never become one, and none is guessed', async (t) => {
  const folder = await server.createFolder()
  const url = await server.sign(folder, 'form', { operation: 'upload' })
  const path = (name: string) => ({ status: 201, answer: { files: [{ path: `form/${name}` }] } })
  const exact = "filename*=utf-8''%225%22%20pipe.txt"
  const disposition = (rest: string) => `Content-Disposition: form-data; name="f"; ${rest}`

  t.match(await post(url, disposition(`filename="\\"5\\" pipe.txt"; ${exact}`)), path('"5" pipe.txt'))
  t.match(await post(url, disposition(`${exact}; filename=a`)), path('"5" pipe.txt'))
  for (const head of [
    disposition('filename="\\"5\\" pipe.txt"'),
    disposition('filename=""5" pipe.txt"'),
    disposition('filename="a"; filename="b"'),
    `${disposition('filename="a"')}\r\n${disposition('filename="b"')}`,
    `${'X: y\r\n'.repeat(20_000)}${disposition('filename="a"')}`,
    disposition(`filename="${'a'.repeat(90_000)}"`),
  ]) {
    t.match(await post(url, head), { status: 400, answer: { code: 'malformed_multipart' } }, head.slice(0, 100))
  }
  t.same(await readdir(join(await server.mountOf(folder), 'form')), ['"5" pipe.txt'])
})

t.test('a boundary is read as the header has it', async (t) => {
  const folder = await server.createFolder()
  const url = await server.sign(folder, 'form', { operation: 'upload' })
  const head = 'content-disposition: FORM-DATA;; NAME=f; FileName="a"; '
  for (const type of [
    `Multipart/Form-Data;charset=utf-8;;BOUNDARY=${boundary};`,
    `multipart/form-data ; a="b; boundary=c" ; boundary="${boundary}"`,
  ]) {
    t.match(await post(url, head, type), { status: 201 }, type)
  }
  for (const given of ['', `a; boundary=${boundary}`, 'b'.repeat(71)]) {
    const type = `multipart/form-data; boundary=${given}`
    t.match(await post(url, head, type), { status: 400, answer: { detail: /one boundary/ } }, type)
  }
  const padded = `--${boundary} \t\r\n${head}\r\n\r\nhello\r\n--${boundary}--\t \r\n`
  const headers = {
    authorization: `Bearer ${managerToken}`,
    'content-type': `multipart/form-data; boundary=${boundary}`,
  }
  const response = await fetch(`${server.url}/folders/upload?folder=${folder}`, {
    method: 'POST',
    body: padded,
    headers,
  })
  t.match(await response.json(), { files: [{ path: 'a', size: 5 }] }, 'padding behind a boundary')
})
