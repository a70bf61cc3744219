import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { changeDatabase, openDatabase } from '../database.ts'
import { compileCache, startServer, temporaryDirectory } from '../server.ts'
import { needing, withOwnMounts } from '../tools.ts'

const serverFile = fileURLToPath(new URL('../../server.ts', import.meta.url))
const directory = await temporaryDirectory(t)
// Root may read and write everything, so the services run as nobody.
const asNobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
await chmod(directory, 0o777)

type Case = [what: string, env: Record<string, string>, sentence: RegExp, through?: string[]]

let number = 0
const newPath = () => join(directory, String(++number))
async function file(content: string | Uint8Array, mode = 0o644): Promise<string> {
  const path = newPath()
  await writeFile(path, content)
  await chmod(path, mode)
  return path
}
async function dataDir(files: Record<string, string | null> = {}, mode = 0o666): Promise<string> {
  const path = newPath()
  await mkdir(path)
  await chmod(path, 0o777)
  for (const [name, content] of Object.entries(files)) {
    if (content === null) await mkdir(join(path, name))
    else await writeFile(join(path, name), content)
    await chmod(join(path, name), content === null ? 0o777 : mode)
  }
  return path
}
async function linkTo(target: string): Promise<string> {
  const path = newPath()
  await symlink(target, path)
  return path
}
const volume = (options: object) => JSON.stringify({ v: { backend: 'posix', ...options } })
const plugin = async (source: string) => {
  const path = `${newPath()}.mjs`
  await writeFile(path, source)
  return path
}

function start(env: Record<string, string>, through: string[] = []): ChildProcess {
  // tap would have the server load a module of its own, which writes files.
  const [program = '', ...rest] = [...through, 'env', '-u', 'NODE_OPTIONS', process.execPath, serverFile]
  const common = { PATH: process.env.PATH, NODE_COMPILE_CACHE: compileCache, PORT: '0' }
  // What does not end is killed, and fails the test.
  return spawn(program, rest, {
    env: { ...common, DATA_DIR: newPath(), ...env },
    timeout: 60_000,
    killSignal: 'SIGKILL',
    ...(through.length === 0 && asNobody),
  })
}

async function check(t: Test, [what, env, sentence, through]: Case): Promise<void> {
  const child = start(env, through)
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, 'exit')])
  t.equal(code, 1, `${what}: exit status`)
  t.match(stderr.trimEnd(), sentence, what)
  t.equal(stderr.split('\n').length, 2, `${what}: one line, not ${stderr}`)
  t.ok(stderr.length < 600, `${what}: a sentence, not ${stderr.length} characters`)
  t.notMatch(stderr, /^ +at |\bat \w+ \(|undefined|\[object/m, `${what}: for people`)
  const lines = stdout.split('\n').filter(Boolean)
  const ends = lines.map((line) => JSON.parse(line)).filter(({ level }) => level === 60)
  t.equal(ends.length, 1, `${what}: one fatal line in the log`)
  t.equal(ends[0]?.msg, stderr.trimEnd(), `${what}: with the sentence`)
  t.equal(lines.at(-1)?.split('"request_id":').length, 2, `${what}: with a request ID`)
  const [variable] = /^\w+_FILE|^BACKEND_PLUGINS(?= has [./])/.exec(stderr) ?? []
  if (variable !== undefined) t.equal(ends[0]?.file, resolve(env[variable] ?? ''), `${what}: with the file`)
}

async function checkAll(t: Test, cases: Case[]): Promise<void> {
  for (let at = 0; at < cases.length; at += 4) await Promise.all(cases.slice(at, at + 4).map((each) => check(t, each)))
}

t.test('files that variables name', async (t) => {
  const cases: Case[] = []
  for (const name of ['VOLUMES_FILE', 'MANAGER_TOKENS_FILE', 'SIGNING_KEYS_FILE']) {
    for (const [what, path, rule] of [
      ['missing', newPath(), 'ENOENT'],
      ['unreadable', await file('x'.repeat(40), 0), 'EACCES'],
      ['a directory', directory, 'not a regular file'],
      ['endless', '/dev/zero', 'not a regular file'],
      ['binary', await file(Uint8Array.from({ length: 64 }, (_, at) => 255 - at)), 'UTF-8'],
      ['huge', await file('x'.repeat(2_000_000)), '1048576 bytes'],
    ] as const) {
      const sentence = new RegExp(`^${name} must name a file .*${path}.*${rule}`)
      cases.push([`${name} ${what}`, { [name]: path }, sentence])
    }
  }
  const twice = '{ "v": { "backend": "posix", "root": "/a", "root": "/b" } }'
  cases.push(
    ['no JSON', { VOLUMES_FILE: await file('v: posix') }, /^VOLUMES_FILE must be JSON/],
    ['empty', { VOLUMES_FILE: await file('') }, /^VOLUMES_FILE must be JSON/],
    ['a key twice', { VOLUMES_FILE: await file(twice) }, /^VOLUMES_FILE must have each key once, and has root twice/],
    ['no such backend', { VOLUMES_FILE: await file('{"v":{"backend":"tape"}}') }, /^VOLUMES_FILE\/v\/backend must be/],
    ['no option', { VOLUMES_FILE: await file(volume({})) }, /^VOLUMES_FILE\/v must have required property 'root'/],
    ['no root', { VOLUMES_FILE: await file(volume({ root: '/proc' })) }, /^VOLUMES_FILE\/v cannot be used: /],
    ['no URL', { DATABASE_URL_FILE: await file('postgres://x') }, /^DATABASE_URL_FILE must be postgres:/],
    [
      'no server',
      { DATABASE_URL_FILE: await file('postgres://user@127.0.0.1:1/state') },
      /^DATABASE_URL_FILE must name a PostgreSQL /,
    ],
    [
      'a volume twice',
      { VOLUMES: '{"v":{},"\\u0076":{"backend":"posix"}}' },
      /^VOLUMES must have each key once, and has v/,
    ],
  )
  await checkAll(t, cases)
  const withMark = await file(`\ufeff${volume({ root: newPath() })}`)
  const server = await startServer(t, { env: { VOLUMES_FILE: withMark } })
  t.equal((await server.ask('GET', '/volumes')).volumes[0].name, 'v', 'a byte order mark does no harm')
})

t.test('the database', async (t) => {
  const name = 'storage-proxy.sqlite'
  const newer = await temporaryDirectory(t)
  const server = await startServer(t, { dataDir: newer })
  await server.end()
  changeDatabase(newer, `INSERT INTO kysely_migration VALUES ('999-from-later', '2030-01-01')`)
  await rm(join(newer, 'volumes'), { recursive: true })
  await chmod(newer, 0o777)
  for (const each of await readdir(newer)) await chmod(join(newer, each), 0o666)
  const of = (dir: string, reason: string) =>
    new RegExp(`^DATA_DIR has ${join(dir, name)}, which .*database: .*${reason}`)
  const garbage = await dataDir({ [name]: 'not a database, and longer than a header '.repeat(100) })
  const inPlace = await dataDir({ [name]: null })
  const unreadable = await dataDir({ [name]: '' }, 0)
  const readOnly = await dataDir({ [name]: '' }, 0o444)
  const foreign = await dataDir({ [name]: '' })
  const theirs = openDatabase(foreign)
  theirs.exec('CREATE TABLE other (a); PRAGMA user_version = 7')
  await checkAll(t, [
    ['garbage', { DATA_DIR: garbage }, of(garbage, 'not a database')],
    ['a directory in its place', { DATA_DIR: inPlace }, of(inPlace, 'directory')],
    ['unreadable', { DATA_DIR: unreadable }, of(unreadable, 'unable to open')],
    ['read-only', { DATA_DIR: readOnly }, of(readOnly, 'readonly')],
    ['of another application', { DATA_DIR: foreign }, of(foreign, 'another application.* table other in it$')],
    [
      'of a newer service',
      { DATA_DIR: newer },
      /^DATA_DIR: the database .*newer version of the service.*999-from-later/,
    ],
  ])
  t.match(theirs.prepare('PRAGMA user_version').get(), { user_version: 7 }, 'nothing of it was changed')
  theirs.close()
})

t.test('secrets that the service makes', async (t) => {
  const cases: Case[] = []
  for (const [variable, name] of [
    ['MANAGER_TOKENS', 'manager-token'],
    ['SIGNING_KEYS', 'signing-key'],
  ] as const) {
    const sentence = (dir: string, rule: string) => new RegExp(`^${variable} must be set.*${join(dir, name)}.*${rule}`)
    const [empty, unreadable, isDirectory] = [
      await dataDir({ [name]: '' }),
      await dataDir({ [name]: 'x'.repeat(40) }, 0),
      await dataDir({ [name]: null }),
    ]
    const dangling = await dataDir()
    await symlink('nowhere', join(dangling, name))
    const endless = await dataDir()
    await symlink('/dev/zero', join(endless, name))
    cases.push(
      [`${name} empty`, { DATA_DIR: empty }, sentence(empty, '32 characters')],
      [`${name} unreadable`, { DATA_DIR: unreadable }, sentence(unreadable, 'EACCES')],
      [`${name} a directory`, { DATA_DIR: isDirectory }, sentence(isDirectory, 'not a regular file')],
      [`${name} a dangling symlink`, { DATA_DIR: dangling }, sentence(dangling, '')],
      [`${name} endless`, { DATA_DIR: endless }, sentence(endless, 'not a regular file')],
    )
  }
  await checkAll(t, cases)
})

t.test('directories', async (t) => {
  const plain = await file('')
  const closed = newPath()
  await mkdir(closed)
  await chmod(closed, 0o555)
  const cases: Case[] = []
  const dangling = await linkTo(newPath())
  const paths = ['/proc/x/y/z', '/sys/x', '/dev/null/x', '/proc', plain]
  for (const path of [...paths, `${closed}/x/y`, dangling]) {
    cases.push(
      [`DATA_DIR ${path}`, { DATA_DIR: path }, new RegExp(`^DATA_DIR must be a directory .*${path}`)],
      [
        `root ${path}`,
        { VOLUMES: volume({ root: path }) },
        new RegExp(`^VOLUMES/v cannot be used: .*root must be .*${path}$`),
      ],
    )
  }
  await checkAll(t, cases)
})

t.test('volumes of which one is in the place of the other', async (t) => {
  const place = newPath()
  const inside = await linkTo(join(place, 'staging'))
  const two = (one: object, other: object) => JSON.stringify({ one, other })
  const posix = (root: string) => ({ backend: 'posix', root })
  const s3 = (options: object) => ({ backend: 's3', bucket: 'files', endpoint: 'http://127.0.0.1:1', ...options })
  const sentence = (relation: string) =>
    new RegExp(`^VOLUMES(_FILE)? must give each volume a place of its own: other ${relation} one$`)
  const [same, within, around] = ['is in the same place as', 'is inside', 'is around'].map(sentence)
  await mkdir(join(place, 'staging'), { recursive: true })
  await checkAll(t, [
    ['one root', { VOLUMES: two(posix(place), posix(`${place}/`)) }, same!],
    ['a symlink', { VOLUMES: two(posix(place), posix(await linkTo(place))) }, same!],
    ['staging', { VOLUMES_FILE: await file(two(posix(place), posix(join(inside, 'other')))) }, within!],
    ['what is not there yet', { VOLUMES: two(posix(join(place, 'a/b/c')), posix(join(place, 'a/b'))) }, around!],
    ['one prefix', { VOLUMES: two(s3({ prefix: 'a/b' }), s3({ prefix: '/a/b/' })) }, same!],
    ['a longer prefix', { VOLUMES: two(s3({ endpoint: 'http://127.0.0.1:1/' }), s3({ prefix: 'a' })) }, within!],
  ])
  t.same(await readdir(join(place, 'staging')), [], 'nothing was made')
  const beside = {
    a: posix(join(directory, 'beside/a')),
    ab: posix(join(directory, 'beside/ab')),
    b: s3({ prefix: 'b' }),
    bc: s3({ prefix: 'bc' }),
    c: s3({ bucket: 'others', prefix: 'b' }),
  }
  await startServer(t, { env: { VOLUMES: JSON.stringify(beside) } })
})

t.test('directories, for root', needing('mount', 'unshare', 'mounts of its own'), async (t) => {
  const root = [...withOwnMounts]
  await checkAll(
    t,
    ['/proc/x/y', '/sys'].flatMap((path): Case[] => [
      [`DATA_DIR ${path}`, { DATA_DIR: path }, /^DATA_DIR (must be a directory|has) /, root],
      [`root ${path}`, { VOLUMES: volume({ root: path }) }, /^VOLUMES\/v cannot be used: .*root must be/, root],
    ]),
  )
})

t.test('no room', needing('mount', 'unshare', 'mounts of its own'), async (t) => {
  const full = newPath()
  await mkdir(full)
  const mount = (kilobytes: number, then: string) => [
    ...withOwnMounts,
    'sh',
    '-c',
    `mount -t tmpfs -o size=${kilobytes}k none '${full}' && ${then} && exec "$@"`,
    'sh',
  ]
  const fill = `(dd if=/dev/zero of='${full}/ballast' bs=4k 2>/dev/null || true)`
  const known = `touch '${full}/known'`
  await checkAll(t, [
    [
      'for the database',
      { DATA_DIR: full },
      /^DATA_DIR has .*storage-proxy.sqlite, which .*database: /,
      mount(16, known),
    ],
    [
      'for a secret',
      { DATA_DIR: full, VOLUMES: volume({ root: newPath() }) },
      /^(DATA_DIR has|MANAGER_TOKENS must be set)/,
      mount(8, fill),
    ],
  ])
})

t.test('addresses', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const address = taken.address()
  const port = typeof address === 'object' ? String(address?.port) : ''
  await checkAll(t, [
    ['a port in use', { PORT: port }, new RegExp(`^HOST and PORT must be an address to listen on: .*${port}`)],
    [
      'a host that is none',
      { HOST: 'no-such-host.invalid' },
      /^HOST and PORT must be an address .*no-such-host.invalid/,
    ],
    ['no host', { HOST: 'a b' }, /^HOST and PORT must be an address .*a b/],
    ['one port for both', { PORT: '7021', MANAGER_PORT: '7021' }, /^MANAGER_PORT must differ from PORT/],
    [
      'one port on all',
      { HOST: '0.0.0.0', PORT: '7021', MANAGER_HOST: '127.0.0.1', MANAGER_PORT: '7021' },
      /^MANAGER_PORT must differ from PORT/,
    ],
    ['a manager port in use', { MANAGER_PORT: port }, new RegExp(`^MANAGER_HOST and MANAGER_PORT must .*${port}`)],
    ['no URL', { PUBLIC_URL: 'http://' }, /^PUBLIC_URL must be/],
    ['no port', { PUBLIC_URL: 'http://host:99999' }, /^PUBLIC_URL must be/],
    [
      'no endpoint',
      { VOLUMES: '{"v":{"backend":"s3","bucket":"files","endpoint":"http://a b"}}' },
      /^VOLUMES\/v.*endpoint/,
    ],
    [
      'no public endpoint',
      { VOLUMES: '{"v":{"backend":"s3","bucket":"files","publicEndpoint":"https://:x"}}' },
      /^VOLUMES\/v.*publicEndpoint/,
    ],
  ])
})

t.test('plugins that fail', async (t) => {
  const register = (create: string) =>
    plugin(`const plugin = async (app) => app.backends.register({
      type: 'tape', options: { type: 'object', additionalProperties: false }, create: ${create} })
    plugin[Symbol.for('skip-override')] = true
    export default plugin`)
  const VOLUMES = '{"v":{"backend":"tape"}}'
  const sources: [what: string, source: string, sentence: RegExp][] = [
    ['throws', `throw new Error('no tape\\nin the drive')`, /cannot be loaded: no tape/],
    ['throws nothing', 'throw undefined', /cannot be loaded/],
    ['throws an object', 'throw { no: 1 }', /cannot be loaded/],
    ['is no JavaScript', 'this is', /cannot be loaded/],
    ['has no default export', 'export const a = 1', /has no default export/],
    ['never loads', 'await new Promise(() => {})', /cannot be loaded: .*seconds/],
    ['never ends', 'export default () => new Promise(() => {})', /fails: .*seconds/],
    [
      'throws later',
      `setImmediate(() => { throw new Error('no tape') }); await new Promise((r) => setTimeout(r, 500)); export default async () => {}`,
      /no tape/,
    ],
    [
      'rejects later',
      `Promise.reject(new Error('no tape')); await new Promise((r) => setTimeout(r, 500)); export default async () => {}`,
      /no tape/,
    ],
  ]
  const cases: Case[] = []
  for (const [what, source, sentence] of sources)
    cases.push([what, { BACKEND_PLUGINS: await plugin(source) }, sentence])
  cases.push([
    'is missing',
    { BACKEND_PLUGINS: './nowhere.ts' },
    /^BACKEND_PLUGINS has .*cannot be found: there is no /,
  ])
  for (const [create, sentence] of [
    ['() => new Promise(() => {})', /^VOLUMES\/v cannot be used: .*seconds/],
    [`() => { throw new Error('no tape\\nat all') }`, /^VOLUMES\/v cannot be used: no tape/],
    ['() => { throw undefined }', /^VOLUMES\/v cannot be used/],
  ] as const) {
    cases.push([create, { BACKEND_PLUGINS: await register(create), VOLUMES }, sentence])
  }
  await checkAll(t, cases)
})
