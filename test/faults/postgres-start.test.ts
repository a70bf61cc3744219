import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { password } from '../postgres/password.ts'
import { startProxy } from '../postgres/proxy.ts'
import { startCluster, startInVain, startSharing } from '../postgres/service.ts'
import { eventually, startServer, temporaryDirectory } from '../server.ts'

const cluster = await startCluster(t)
const database = async (options = ''): Promise<string> => {
  const name = `db_${randomUUID().replaceAll('-', '')}`
  await cluster.query('postgres', `create database ${name} ${options}`)
  return cluster.url(name)
}
const encoded = encodeURIComponent(password)

/** What is said to people; the log says the same as JSON. */
function told(output: string): string {
  return output
    .split('\n')
    .filter((line) => !line.startsWith('{'))
    .join('\n')
}

/** The row with which the server tells its version and encoding, with another version. */
function asVersion14(chunk: Buffer): Buffer {
  const encoding = chunk.indexOf(Buffer.from([0, 0, 0, 4, ...Buffer.from('UTF8')]))
  if (encoding > 0) chunk.write('14', encoding - 2)
  return chunk
}

t.test('what cannot be used stops the start with a sentence', async (t) => {
  const url = await database()
  const file = join(await temporaryDirectory(t), 'url')
  await writeFile(file, 'postgres://user@localhost')
  const silent = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => silent.once('listening', resolve))
  t.teardown(() => silent.close())
  const silentPort = (silent.address() as { port: number }).port
  const ascii = await database("template template0 encoding 'SQL_ASCII' locale_provider libc locale 'C'")
  await cluster.query('postgres', `create role guest login password 'guest-password'`)
  const wrong = join(await temporaryDirectory(t), 'url-with-a-wrong-password')
  await writeFile(wrong, url.replace(encoded, 'wrong-one'))
  const old = await startProxy(t, cluster.port, asVersion14)
  const form = /^DATABASE_URL must be postgres:\/\/USER:PASSWORD@HOST:PORT\/DATABASE/

  const cases: [Record<string, string>, RegExp][] = [
    [{ DATABASE_URL: 'mysql://tests@localhost/x' }, form],
    [{ DATABASE_URL: `postgres://tests:${encoded}@localhost` }, form],
    [{ DATABASE_URL: `not a URL with ${password}` }, form],
    [{ DATABASE_URL: `postgres://tests:${password}@localhost/x` }, form],
    [{ DATABASE_URL: `postgres://tests:%zz${encoded}@localhost/x` }, /^DATABASE_URL must have percent-encoded UTF-8/],
    [{ DATABASE_URL: `${url}?sslmode=prefer` }, /^DATABASE_URL: sslmode must be one of disable, require, verify-ca/],
    [{ DATABASE_URL: `${url}?sslrootcert=/missing` }, /^DATABASE_URL: sslrootcert must name a file.*\/missing/],
    [{ DATABASE_URL: `${url}?pool_mode=x` }, /^DATABASE_URL may have sslmode, .*, not pool_mode/],
    [{ DATABASE_URL_FILE: file }, /^DATABASE_URL_FILE must be postgres:/],
    [{ DATABASE_URL: url, DATABASE_URL_FILE: file }, /^DATABASE_URL and DATABASE_URL_FILE must not both be set/],
    [{ DATABASE_URL: url, DATABASE_POOL_SIZE: '1' }, /^DATABASE_POOL_SIZE must be >= 2/],
    [
      { DATABASE_URL: url.replace(`:${cluster.port}/`, ':1/') },
      /^DATABASE_URL .*127\.0\.0\.1:1 cannot be used: .*REFUSED/,
    ],
    [
      { DATABASE_URL: url.replace('127.0.0.1', 'nowhere.invalid') },
      /^DATABASE_URL .*nowhere\.invalid.*(ENOTFOUND|EAI)/,
    ],
    [
      { DATABASE_URL: url.replace(`:${cluster.port}/`, `:${silentPort}/`), DATABASE_CONNECT_TIMEOUT_SECONDS: '1' },
      /^DATABASE_URL .*timeout/,
    ],
    [{ DATABASE_URL: url.replace(encoded, 'wrong-one') }, /^DATABASE_URL .*password authentication failed/],
    [{ DATABASE_URL_FILE: wrong }, /^DATABASE_URL_FILE .*password authentication failed/],
    [
      { DATABASE_URL: url.replace(`:${cluster.port}/`, `:${old.port}/`) },
      /^DATABASE_URL must name PostgreSQL 15 or newer; its server is version 14/,
    ],
    [{ DATABASE_URL: cluster.url('no_such_one') }, /^DATABASE_URL .*database "no_such_one" does not exist/],
    [{ DATABASE_URL: `${url}?sslmode=verify-full` }, /^DATABASE_URL .*does not support SSL/],
    [{ DATABASE_URL: ascii }, /^DATABASE_URL must name a database whose encoding is UTF8, not SQL_ASCII/],
    [
      { DATABASE_URL: url.replace(`tests:${encoded}`, 'guest:guest-password') },
      /^DATABASE_URL must name a user who may create tables/,
    ],
  ]
  for (const [env, sentence] of cases) {
    const { code, output } = await startInVain(t, env)
    t.match([code, told(output)], [1, sentence], String(sentence))
    for (const secret of [password, encoded, 'wrong-one', 'guest-password']) t.notOk(output.includes(secret))
    t.notMatch(output, /\n +at /, 'no stack')
  }
})

t.test('a server that takes no more connections', async (t) => {
  const name = new URL(await database()).pathname.slice(1)
  await cluster.query('postgres', `alter role guest connection limit 0; alter database ${name} owner to guest`)
  const { code, output } = await startInVain(t, {
    DATABASE_URL: cluster.url(name).replace(`tests:${encoded}`, 'guest:guest-password'),
  })
  t.match([code, told(output)], [1, /^DATABASE_URL .*too many connections/])
})

t.test('ten processes that start at once', async (t) => {
  const url = await database()
  const root = await temporaryDirectory(t)
  const servers = await Promise.all(
    Array.from({ length: 10 }, () => startSharing(t, { url, root, startMilliseconds: 120_000 })),
  )
  const [first, last] = [servers[0]!, servers[9]!]
  const folder = await first.createFolder()
  t.match(await last.ask('GET', `/folders/${folder}`), { id: folder, state: 'ready' })
  for (const server of servers) t.equal((await fetch(`${server.url}/readyz`)).status, 200)
  const names = await cluster.query(new URL(url).pathname.slice(1), 'select name from kysely_migration')
  t.equal(new Set(names.map(({ name }) => name)).size, names.length)
  for (const server of servers) t.notOk(server.rawLines().join().includes(encoded), 'no log line has the password')
  await Promise.all(servers.map((server) => server.end()))
})

t.test('an older process on a newer database', async (t) => {
  const url = await database()
  const server = await startSharing(t, { url, root: await temporaryDirectory(t) })
  await server.end()
  const name = new URL(url).pathname.slice(1)
  await cluster.query(name, `insert into kysely_migration (name, timestamp) values ('999-later', '2100')`)
  const { code, output } = await startInVain(t, { DATABASE_URL: url })
  t.match(
    [code, told(output)],
    [1, /^DATABASE_URL has been used by a newer version of the service, whose migration 999-later/],
  )
})

t.test('secrets that a process has generated are not those of the others', async (t) => {
  const url = await database()
  const root = await temporaryDirectory(t)
  const none = { DATABASE_URL: url, VOLUMES: JSON.stringify({ default: { backend: 'posix', root } }) }
  const first = await startSharing(t, { url, root, env: { SIGNING_KEYS: '', MANAGER_TOKENS: '' } })
  for (const [env, sentence] of [
    [{ MANAGER_TOKENS: '' }, /^MANAGER_TOKENS must be set, .*has generated another one/m],
    [{ SIGNING_KEYS: '' }, /^SIGNING_KEYS must be set, .*has generated another one/m],
  ] as const) {
    const { code, output } = await startInVain(t, { ...none, ...env })
    t.match([code, told(output)], [1, sentence])
  }
  // With its own it starts again.
  await first.end()
  const again = { dataDir: first.dataDir }
  const env = { ...none, SIGNING_KEYS: '', MANAGER_TOKENS: '' }
  await (await startServer(t, { ...again, env })).end()

  const configured = await startSharing(t, { url, root })
  const { code, output } = await startInVain(t, { ...none, SIGNING_KEYS: '' })
  t.match([code, told(output)], [1, /^SIGNING_KEYS must be set, .*has it set/m])

  const other = await startSharing(t, { url, root, env: { SIGNING_KEYS: 'another-key-of-at-least-32-characters' } })
  const line = await eventually(() => other.lines().find(({ msg }) => msg.startsWith('SIGNING_KEYS differ')))
  t.match(line, { level: 40, key_ids: [String], other_key_ids: [String] })
  const rotating = await startSharing(t, {
    url,
    root,
    env: { SIGNING_KEYS: `a-new-key-of-at-least-thirty-two-characters,another-key-of-at-least-32-characters` },
  })
  t.ok(rotating.lines().some(({ msg }) => msg.startsWith('SIGNING_KEYS differ')))
  await configured.end()
})
