import { globSync, readFileSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import posix from '../../backends/posix/index.ts'
import { loadConfig } from '../../plugins/config.ts'
import { createLoggers } from '../../plugins/request/logging.ts'
import { temporaryDirectory } from '../server.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

interface Plugin {
  file: string
  name: string
  dependencies: string[]
  register: FastifyPluginAsync<Record<string, unknown>>
}

/** Every plugin by its name, with what it says of itself (fastify-plugin). */
async function loadPlugins(): Promise<Map<string, Plugin>> {
  const plugins = new Map<string, Plugin>()
  for (const file of globSync(['plugins/**/*.ts', 'jobs/*.ts'], { cwd: root })) {
    const text = readFileSync(join(root, file), 'utf8')
    if (!text.includes('export default fp(')) continue
    const { default: register } = await import(join(root, file))
    const { name, dependencies = [] } = register[Symbol.for('plugin-meta')]
    plugins.set(name, { file, name, dependencies, register })
  }
  return plugins
}

/** A plugin and all that it needs, each after what it needs itself. */
function closureOf(name: string, plugins: Map<string, Plugin>, found = new Set<string>()): Set<string> {
  for (const dependency of plugins.get(name)?.dependencies ?? []) closureOf(dependency, plugins, found)
  return found.add(name)
}

/** The text of a plugin and of the modules that it alone is made of: those of its room that are no plugins. */
function sourceOf(file: string, seen = new Set<string>()): string {
  if (seen.has(file)) return ''
  seen.add(file)
  const text = readFileSync(join(root, file), 'utf8')
  const imported = [...text.matchAll(/^import (?!type ).*? from '(\..*?)'/gms)].map(([, path]) =>
    normalize(join(file, '..', path!)),
  )
  const own = imported.filter(
    (path) => /^(plugins|jobs)\//.test(path) && !readFileSync(join(root, path), 'utf8').includes('export default fp('),
  )
  return [text, ...own.map((path) => sourceOf(path, seen))].join('\n')
}

const plugins = await loadPlugins()
const chapters = [...plugins.values()].filter(({ file }) => /^(plugins\/\w+|jobs)\/index\.ts$/.test(file))

const loggers = createLoggers('silent')

t.test('each plugin starts with nothing but what it names', async (t) => {
  t.ok(plugins.size > 25, `there are ${plugins.size} plugins`)
  for (const plugin of plugins.values()) {
    if (chapters.includes(plugin)) continue
    const config = loadConfig({ DATA_DIR: await temporaryDirectory(t) })
    const app = Fastify(loggers)
    for (const name of closureOf(plugin.name, plugins)) {
      await app.register(plugins.get(name)!.register, name === 'config' ? { config } : {})
      // The kinds of storage come from outside of the plugins; the default volume is of this one.
      if (name === 'backends') await app.register(posix)
    }
    await t.resolves(async () => app.ready(), plugin.name)
    await app.close()
  }
})

/** Which rooms the plugins of a room may need; those of `transfer` and `sight` may need all. */
const below: Record<string, string[]> = {
  request: ['config'],
  storage: ['config'],
  access: ['config'],
  work: ['config', 'storage', 'access'],
  vfolders: ['config', 'storage', 'access', 'work'],
  jobs: ['config', 'storage', 'access', 'work', 'vfolders'],
}

/** The folder of a plugin, for one of `plugins/` without that. */
function roomOf(file: string): string {
  return file.replace('plugins/', '').replace(/(\/.*|\.ts)$/, '')
}

t.test('no plugin needs one of a room above its own', async (t) => {
  for (const { name, file, dependencies } of plugins.values()) {
    const room = roomOf(file)
    for (const dependency of dependencies) {
      const needed = roomOf(plugins.get(dependency)!.file)
      const allowed = room === 'transfer' || room === 'sight' || needed === room || below[room]?.includes(needed)
      t.ok(allowed, `${name} of ${room} needs ${dependency} of ${needed}`)
    }
  }
})

t.test('each plugin names the owner of every decorator that it uses', async (t) => {
  const owners = new Map<string, string>()
  for (const { name, file } of plugins.values()) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, decorator] of text.matchAll(/\.decorate(?:Request|Reply)?\('(\w+)'/g)) owners.set(decorator!, name)
  }
  t.ok(owners.size > 20, `there are ${owners.size} decorators`)
  for (const { name, file, dependencies } of plugins.values()) {
    const text = sourceOf(file)
    const destructured = [...text.matchAll(/\{([^{}]*)\}: FastifyInstance\b/g)].map(([, names]) => names!).join(',')
    for (const [decorator, owner] of owners) {
      const used =
        new RegExp(`\\b(app|request|reply|server|this)\\.${decorator}\\b`).test(text) ||
        new RegExp(`(^|,)\\s*${decorator}\\s*(:|,|$)`).test(destructured)
      if (used && owner !== name) t.ok(dependencies.includes(owner), `${name} uses ${decorator} of ${owner}`)
    }
  }
})
