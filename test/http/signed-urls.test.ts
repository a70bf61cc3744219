import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { createSignedUrls } from '../../plugins/access/signed-urls.ts'
import { requestIdHeader } from '../../plugins/request/request-id.ts'
import { type Answer, eventually, signingKey, startServer } from '../server.ts'
import { server } from '../shared-server.ts'

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

async function refused(t: Test, url: string, status: number, code: string, what: string): Promise<Answer> {
  const response = await fetch(url)
  const problem: Answer = await response.json()
  t.match(problem, { status, code, requestId: response.headers.get(requestIdHeader) }, what)
  t.equal(response.status, status, what)
  return problem
}

async function textOf(url: string): Promise<string> {
  const response = await fetch(url)
  return response.ok ? response.text() : `${response.status}`
}

t.test('who has the token, and only who has it', async (t) => {
  const server = await startServer(t, { env: { LOG_LEVEL: 'trace' } })
  const folder = await server.createFolder()
  const other = await server.createFolder()
  for (const each of [folder, other]) await server.upload(each, { 'a.txt': 'hello', 'dir/b.txt': 'b' })
  const signed = await server.sign(folder, 'a.txt')
  const [url, token] = signed.split('?token=') as [string, string]

  await t.test('may download', async (t) => {
    t.equal(await textOf(signed), 'hello')
    t.equal(await textOf(`${signed}&utm_source=mail`), 'hello', 'what a mailer appends does no harm')
  })

  await t.test('no token, or none of ours', async (t) => {
    await refused(t, url, 401, 'token_required', 'none')
    await refused(t, `${url}?token=`, 401, 'token_required', 'empty')
    const [id, payload, mac] = token.split('.') as [string, string, string]
    const malformed = ['x', '.', '..', '...', `${id}.${payload}`, `${id}..${mac}`, `.${payload}.${mac}`, `${token}.x`]
    for (const wrong of [...malformed, `${token}=`, `${token}%20`, `${token}%00`, token.slice(0, -1), `${token}A`]) {
      await refused(t, `${url}?token=${wrong}`, 401, 'token_invalid', wrong)
    }
    await refused(t, `${signed}&token=${token}`, 400, 'validation_failed', 'twice')
    await refused(t, `${url}-there-is-none?token=x`, 401, 'token_invalid', 'nor does it tell what there is')
  })

  await t.test('not one character may be another', async (t) => {
    const altered = Array.from(token, (character, index) => {
      const next = alphabet[(alphabet.indexOf(character) + 1) % 64]
      return token.slice(0, index) + next + token.slice(index + 1)
    })
    const lasts = Array.from(alphabet, (last) => token.slice(0, -1) + last).filter((each) => each !== token)
    const statuses = new Map<string, number>()
    for (const wrong of [...altered, ...lasts]) {
      const response = await fetch(`${url}?token=${wrong}`)
      const { code }: Answer = await response.json()
      statuses.set(code, (statuses.get(code) ?? 0) + 1)
    }
    t.same([...statuses], [['token_invalid', altered.length + lasts.length]])
  })

  await t.test('not for something else', async (t) => {
    await refused(t, signed.replace('a.txt', 'dir/b.txt'), 403, 'token_not_for_this', 'another path')
    await refused(t, signed.replace('a.txt', 'none.txt'), 403, 'token_not_for_this', 'a path that is not there')
    await refused(t, signed.replace(folder, other), 403, 'token_not_for_this', 'another vfolder')
    const { sign } = createSignedUrls([signingKey])
    const permission = { folder, path: 'a.txt', requestId: 'x', expiresAt: Math.ceil(Date.now() / 1000) + 60 }
    t.equal(await textOf(`${url}?token=${sign({ ...permission, operation: 'download' })}`), 'hello')
    const upload = sign({ ...permission, operation: 'upload' })
    const problem = await refused(t, `${url}?token=${upload}`, 403, 'token_not_for_this', 'another operation')
    t.match(problem.detail, /permits upload, not download/)
  })

  await t.test('not when its time is over', async (t) => {
    const body = { operation: 'download', paths: ['a.txt'], expiresIn: 1 }
    const { signedUrls } = await server.ask('POST', `/folders/${folder}/signed-urls`, body)
    const [{ url, expiresAt }] = signedUrls
    t.equal(await textOf(url), 'hello')
    const end = await eventually(async () => (await textOf(url)) === '401' && Date.now())
    t.ok(end >= Date.parse(expiresAt), 'not before')
    t.ok(end < Date.parse(expiresAt) + 1000, 'not long after')
    const problem = await refused(t, url, 401, 'token_expired', 'expired')
    t.match(problem.detail, expiresAt)
  })

  await t.test('not when what it names is gone', async (t) => {
    const gone = await server.sign(other, 'a.txt')
    await rm(join(await server.mountOf(other), 'a.txt'))
    await refused(t, gone, 404, 'entry_not_found', 'the file')
    await server.ask('DELETE', `/folders/${other}`)
    await refused(t, gone, 404, 'vfolder_not_found', 'the vfolder')
  })

  await t.test('no token is in the log', async (t) => {
    t.equal(await textOf(`${url}?%74oken=${token}`), 'hello', 'an odd spelling of token')
    for (const odd of [`${url}%zz?token=${token}`, `${url}%3Ftoken=${token}`, `${server.url}/nothing?token=${token}`]) {
      t.notOk((await fetch(odd)).ok)
    }
    await server.logged(({ req }) => JSON.stringify(req ?? '').includes('/nothing'))
    t.notOk(server.rawLines().some((line) => line.includes(token)))
  })
})

t.test('signing', async (t) => {
  const folder = await server.createFolder()
  const sign = (body: object) => server.manager('POST', `/folders/${folder}/signed-urls`, body)

  await t.test('several paths, whatever their names', async (t) => {
    const paths = [
      'a b.txt',
      'dir/100%.txt',
      'q?a=b&c#d;e+f.txt',
      '한국어/파일 🎉.txt',
      `it's "quoted".txt`,
      '%2e%2e',
      '...',
    ]
    const mount = await server.mountOf(folder)
    for (const path of paths) {
      await mkdir(dirname(join(mount, path)), { recursive: true })
      await writeFile(join(mount, path), `content of ${path}`)
    }
    const response = await sign({ operation: 'download', paths, expiresIn: 600 })
    t.equal(response.status, 201)
    const { signedUrls }: Answer = await response.json()
    t.same(
      signedUrls.map(({ path }: Answer) => path),
      paths,
      'in order',
    )
    for (const { path, method, url, expiresAt } of signedUrls) {
      t.equal(method, 'GET')
      t.equal(await textOf(url), `content of ${path}`)
      t.ok(Math.abs(Date.parse(expiresAt) - Date.now() - 600_000) < 5000, expiresAt)
    }
  })

  await t.test('bounds', async (t) => {
    const good = { operation: 'download', paths: ['a'] }
    const cases: [field: string, body: object][] = [
      ...[0, -1, 604_801, 1.5, '600', null].map((expiresIn): [string, object] => ['expiresIn', { ...good, expiresIn }]),
      ...['', 'x'.repeat(256), 'a/b', 'a\nb', '\ud800', 5].map((filename): [string, object] => [
        'filename',
        { ...good, filename },
      ]),
      ['filename', { ...good, paths: ['a', 'b'], filename: 'both' }],
      ['disposition', { ...good, disposition: 'none' }],
      ['operation', { ...good, operation: 'delete' }],
      ['operation', { paths: ['a'] }],
      ['paths', { operation: 'download' }],
      ['paths', { ...good, paths: [] }],
      ['paths', { ...good, paths: Array(1001).fill('a') }],
      ['expires', { ...good, expires: 60 }],
    ]
    for (const [field, body] of cases) {
      const problem: Answer = await (await sign(body)).json()
      t.match(problem, { status: 400, code: 'validation_failed', field, in: 'body' }, JSON.stringify(body).slice(0, 80))
    }
    for (const [expiresIn, seconds] of [
      [1, 1],
      [604_800, 604_800],
      [undefined, 3600],
    ] as const) {
      const { signedUrls }: Answer = await (await sign({ ...good, expiresIn })).json()
      const rest = Date.parse(signedUrls[0].expiresAt) - Date.now()
      t.ok(rest > seconds * 1000 - 500 && rest <= seconds * 1000 + 1000, `${expiresIn}: ${rest} ms are left`)
    }
    const { signedUrls }: Answer = await (await sign({ ...good, paths: Array(1000).fill('a') })).json()
    t.equal(signedUrls.length, 1000)
  })

  await t.test('an unknown vfolder', async (t) => {
    const none = '00000000-0000-4000-8000-000000000000'
    const response = await server.manager('POST', `/folders/${none}/signed-urls`, {
      operation: 'download',
      paths: ['a'],
    })
    t.match(await response.json(), { status: 404, code: 'vfolder_not_found' })
  })

  await t.test('every line of the download tells who signed', async (t) => {
    const body = { operation: 'download', paths: ['...', 'none'] }
    const headers = { [requestIdHeader]: 'the-signer' }
    const response = await server.manager('POST', `/folders/${folder}/signed-urls`, body, headers)
    const { signedUrls }: Answer = await response.json()
    for (const [index, msg] of ['request completed', 'request refused'].entries()) {
      const id = `the-client-${index}`
      await (await fetch(signedUrls[index].url, { headers: { [requestIdHeader]: id } })).text()
      await server.logged((line) => line.request_id === id && line.msg === 'request completed')
      const [first, ...rest] = server.linesOf(id)
      t.match(first, { msg: 'incoming request', origin_request_id: undefined })
      t.ok(
        rest.some((line) => line.msg === msg),
        msg,
      )
      for (const line of rest) t.equal(line.origin_request_id, 'the-signer', line.msg)
    }
  })
})

t.test('PUBLIC_URL', async (t) => {
  const cases = {
    'https://files.example/': 'https://files.example',
    'https://files.example:8443/a/b//': 'https://files.example:8443/a/b',
  }
  for (const [given, start] of Object.entries(cases)) {
    const server = await startServer(t, { env: { PUBLIC_URL: given } })
    const folder = await server.createFolder()
    await server.upload(folder, { 'a.txt': 'hello' })
    const signed = await server.sign(folder, 'a.txt')
    t.ok(signed.startsWith(`${start}/download/${folder}/a.txt?token=`), signed)
    t.equal(await textOf(signed.replace(start, server.url)), 'hello')
    await server.end()
  }
})
