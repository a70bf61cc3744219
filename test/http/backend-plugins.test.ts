import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { buildApp } from '../../app.ts'
import { ConfigError, loadConfig } from '../../plugins/config.ts'
import { createLoggers } from '../../plugins/request/logging.ts'
import { startServer, temporaryDirectory } from '../server.ts'

const serverFile = fileURLToPath(new URL('../../server.ts', import.meta.url))

/** A module that registers what `definitions` says, each an expression. */
const registering = (...definitions: string[]) => `
  const plugin = async (app) => {
    ${definitions.map((definition) => `app.backends.register(${definition})`).join('\n')}
  }
  plugin[Symbol.for('skip-override')] = true
  export default plugin`

const definition = (members: string) => `{
  type: 'tape', options: { type: 'object', additionalProperties: false }, create: async () => {}, ${members}
}`

const loggers = createLoggers('silent')

/** What keeps the service from starting. */
async function refusal(env: Record<string, string>): Promise<string> {
  try {
    const app = await buildApp(loadConfig(env), loggers)
    await app.close()
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  throw new Error('the service started')
}

/** Starts the service in a directory, where it has to end by itself. */
function start(cwd: string, env: Record<string, string>): Promise<{ code: unknown; stderr: string }> {
  const options = { cwd, env: { PATH: process.env.PATH, PORT: '0', ...env }, timeout: 20_000 }
  return new Promise((resolve) => {
    execFile(process.execPath, [serverFile], options, (error, _stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code ?? error.signal), stderr })
    })
  })
}

t.test('a broken plugin stops the start with a sentence that names it', async (t) => {
  const directory = await temporaryDirectory(t)
  const modules: Record<string, [source: string, sentence: RegExp]> = {
    'throws.mjs': [`throw new Error('no luck\\nat all')`, /which cannot be loaded: no luck$/],
    'imports.mjs': [`import 'no-such-package'`, /which cannot be loaded: Cannot find package 'no-such-package'/],
    'syntax.mjs': ['export default (', /which cannot be loaded: /],
    'nothing.mjs': ['', /which has no default export, which must be a Fastify plugin$/],
    'definition.mjs': [`export default ${definition('')}`, /which has a default export that is not a Fastify plugin$/],
    'class.mjs': ['export default class Tape {}', /which fails: Class constructor Tape cannot be invoked without/],
    'throws-at-once.mjs': [`export default () => { throw new Error('no reel') }`, /which fails: no reel$/],
    'rejects.mjs': [`export default async () => { throw new Error('no tape') }`, /which fails: no tape$/],
    'idle.mjs': ['export default async () => {}', /which registers no backend$/],
    'posix.mjs': [registering(definition(`type: 'posix'`)), /which fails: backend posix is registered twice$/],
    'twice.mjs': [registering(definition(''), definition('')), /which fails: backend tape is registered twice$/],
    'undefined.mjs': [registering('undefined'), /which fails: the definition of a backend is wrong at \/: expected/],
    'untyped.mjs': [registering(definition('type: 7')), /wrong at \/type: expected string$/],
    'misnamed.mjs': [registering(definition(`type: 'Big Tape'`)), /wrong at \/type: expected string to match/],
    'schemaless.mjs': [registering(definition('options: undefined')), /wrong at \/options: expected/],
    'open.mjs': [
      registering(definition(`options: { type: 'object' }`)),
      /wrong at \/options\/additionalProperties: expected/,
    ],
    'schema.mjs': [
      registering(definition(`options: { type: 'object', additionalProperties: false, required: 'root' }`)),
      /which fails: the options of backend tape are no JSON Schema$/,
    ],
    'uncreatable.mjs': [registering(definition('create: undefined')), /wrong at \/create: expected/],
    'dependent.mjs': [
      `const plugin = async () => {}
       plugin[Symbol.for('skip-override')] = true
       plugin[Symbol.for('plugin-meta')] = { name: 'tape', dependencies: ['robot'] }
       export default plugin`,
      /which fails: The dependency 'robot' of plugin 'tape' is not registered$/,
    ],
  }
  const DATA_DIR = join(directory, 'data')
  for (const [name, [source, sentence]] of Object.entries(modules)) {
    const file = join(directory, name)
    await writeFile(file, source)
    const message = await refusal({ BACKEND_PLUGINS: file, DATA_DIR })
    t.match(message, sentence, name)
    t.ok(message.startsWith(`BACKEND_PLUGINS has ${file}, which `), message)
    t.notMatch(message, /\n/)
  }
  for (const missing of ['./missing.mjs', '/nowhere/missing.mjs', 'missing', '@scope/missing']) {
    const message = await refusal({ BACKEND_PLUGINS: missing, DATA_DIR })
    t.ok(message.startsWith(`BACKEND_PLUGINS has ${missing}, which cannot be found: `), message)
  }
  const { code, stderr } = await start(directory, { BACKEND_PLUGINS: './idle.mjs', DATA_DIR })
  t.equal(code, 1)
  t.equal(stderr, 'BACKEND_PLUGINS has ./idle.mjs, which registers no backend\n', 'all that is told')
})

t.test('a backend that is not what the contract says stops the start, and not the first call', async (t) => {
  const directory = await temporaryDirectory(t)
  const DATA_DIR = join(directory, 'data')
  const VOLUMES = JSON.stringify({ v: { backend: 'tape' } })
  const methods = `Object.fromEntries([
    'createFolder', 'removeFolder', 'stat', 'list', 'read', 'write', 'beginUpload', 'appendUpload', 'readUpload',
    'completeUpload', 'abortUpload', 'mkdir', 'move', 'remove', 'collectGarbage', 'health', 'close'
  ].map((name) => [name, async () => {}]))`
  const backends: Record<string, [made: string, sentence: string | undefined]> = {
    nothing: ['undefined', 'at /: expected object'],
    empty: ['{}', 'at /limits: expected required property'],
    unlimited: [`{ ...${methods}, limits: {} }`, 'at /limits/maxFileBytes: expected required property'],
    unfinished: [`{ ...${methods}, move: undefined, limits: { maxFileBytes: 1 } }`, 'at /move: expected function'],
    boasting: [`{ ...${methods}, presign: true, limits: { maxFileBytes: 1 } }`, 'at /presign: expected function'],
    'of a class': [
      `new (class { constructor() { Object.assign(this, ${methods}) } limits = { maxFileBytes: 1 } })`,
      undefined,
    ],
  }
  for (const [name, [made, sentence]] of Object.entries(backends)) {
    const file = join(directory, `${name.replaceAll(' ', '-')}.mjs`)
    await writeFile(file, registering(definition(`create: async () => (${made})`)))
    const message = await refusal({ BACKEND_PLUGINS: file, DATA_DIR, VOLUMES }).catch((error) => error.message)
    const expected = sentence && `VOLUMES/v cannot be used: the backend tape is wrong ${sentence}`
    t.equal(message, expected ?? 'the service started', name)
  }
})

t.test('plugins are loaded by package name and by path, from the working directory and in order', async (t) => {
  const directory = await temporaryDirectory(t)
  const packageDirectory = join(directory, 'node_modules/@tapes/backend')
  await mkdir(packageDirectory, { recursive: true })
  const manifest = { name: '@tapes/backend', type: 'module', exports: { import: './main.js' } }
  await writeFile(join(packageDirectory, 'package.json'), JSON.stringify(manifest))
  await writeFile(join(packageDirectory, 'main.js'), registering(definition(`type: 'by-name'`)))
  await writeFile(join(directory, 'relative.ts'), registering(definition(`type: 'by-path'`)))
  await writeFile(join(directory, 'absolute.mjs'), registering(definition(`type: 'by-absolute-path'`)))

  const plugins = ['@tapes/backend', './relative.ts', join(directory, 'absolute.mjs')]
  const env = { BACKEND_PLUGINS: plugins.join(', ') }
  const server = await startServer(t, { env, cwd: directory })
  const loaded = server.lines().filter(({ msg }) => msg === 'backend plugin loaded')
  t.match(loaded, [
    { module: plugins[0], types: ['by-name'] },
    { module: plugins[1], types: ['by-path'] },
    { module: plugins[2], types: ['by-absolute-path'] },
  ])

  const VOLUMES = JSON.stringify({ v: { backend: 'by-path', root: '/srv' } })
  const { stderr } = await start(directory, { ...env, VOLUMES, DATA_DIR: join(directory, 'data') })
  t.match(stderr, /^VOLUMES\/v must NOT have additional properties root$/m, 'options are checked by its schema')
})
