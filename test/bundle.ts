import { readFile } from 'node:fs/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build, type Plugin } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))

/** These consist of some 250 small modules each; the others are loaded as they are. */
const inBundle = /^(kysely|@sinclair\/typebox|@fastify\/type-provider-typebox)(\/|$)/

/** Our own modules say where they are by their URL: threads are started by it, and back-end plugins are found. */
const ownFiles: Plugin = {
  name: 'own files',
  setup(builder) {
    builder.onResolve({ filter: /^[^./]/ }, ({ path }) => (inBundle.test(path) ? undefined : { path, external: true }))
    builder.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8')
      const url = JSON.stringify(pathToFileURL(path).href)
      return { contents: source.replaceAll('import.meta.url', url), loader: 'ts' }
    })
  },
}

/**
 * Puts the modules of the service into a few files: a start that loads 900 of them by themselves takes a third more
 * processor time, and the tests start it some 300 times.
 *
 * @returns the file that serves as server.ts does
 */
export async function bundleService(): Promise<string> {
  const outdir = `${root}node_modules/.cache/bundle`
  await build({
    entryPoints: [`${root}server.ts`],
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    plugins: [ownFiles],
    logLevel: 'warning',
  })
  return `${outdir}/server.js`
}
