import { existsSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { within } from '../../lib/within.ts'
import { ConfigError, inFile, reasonOf } from '../config.ts'
import { startSeconds } from './backends.ts'

/**
 * Gives the plugin that a module has as its default export.
 * @throws {ConfigError}
 */
async function importPlugin(name: string, file: string): Promise<FastifyPluginAsync> {
  const url = pathToFileURL(file).href
  const module: { default?: unknown } = await within(startSeconds, import(url)).catch((error) => {
    throw pluginError(name, 'cannot be loaded', error)
  })
  if (!('default' in module)) throw pluginError(name, 'has no default export, which must be a Fastify plugin')
  if (!isPlugin(module.default)) throw pluginError(name, 'has a default export that is not a Fastify plugin')
  return module.default
}

/** Fastify takes any function; whether it really is a plugin shows only when it is called. */
function isPlugin(value: unknown): value is FastifyPluginAsync {
  return typeof value === 'function'
}

/** As an `import` in that directory would; `import.meta.resolve` alone resolves only from this file. */
function findModule(directory: string, name: string): string {
  const parentURL = pathToFileURL(`${directory}/`).href
  const hooks = registerHooks({ resolve: (specifier, context, next) => next(specifier, { ...context, parentURL }) })
  let file: string | undefined
  try {
    file = fileURLToPath(import.meta.resolve(name))
    if (!existsSync(file)) throw new Error(`there is no ${file}`)
    return file
  } catch (error) {
    throw pluginError(name, 'cannot be found', error, file)
  } finally {
    hooks.deregister()
  }
}

async function register(app: FastifyInstance, name: string, file: string): Promise<string[]> {
  const plugin = await importPlugin(name, file)
  const before = app.backends.types().length
  try {
    await app.register(rejectOnThrow(plugin))
  } catch (error) {
    throw pluginError(name, 'fails', error)
  }
  const types = app.backends.types().slice(before)
  if (types.length === 0) throw pluginError(name, 'registers no backend')
  return types
}

/** The same plugin, but its synchronous errors become rejections; Fastify would let them end the process. */
function rejectOnThrow(plugin: FastifyPluginAsync): FastifyPluginAsync {
  const { length: _, ...properties } = Object.getOwnPropertyDescriptors(plugin)
  return Object.defineProperties(
    async (app, options) => within(startSeconds, Promise.resolve(plugin(app, options))),
    properties,
  )
}

function pluginError(module: string, what: string, cause?: unknown, file?: string): ConfigError {
  const why = cause === undefined ? '' : `: ${reasonOf(cause)}`
  return new ConfigError(`BACKEND_PLUGINS has ${module}, which ${what}${why}`, { cause, file })
}

/** Loads the kinds of storage that others wrote, from the modules that the configuration names. */
export default fp(
  async (app) => {
    for (const module of app.config.backendPlugins) {
      const file = findModule(process.cwd(), module)
      const types = await inFile(file, () => register(app, module, file))
      app.log.info({ module, types }, 'backend plugin loaded')
    }
  },
  { name: 'backend-plugins', dependencies: ['config', 'backends'] },
)
