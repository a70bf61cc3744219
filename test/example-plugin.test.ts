import { execFile } from 'node:child_process'
import { cp, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { startServer, temporaryDirectory } from './server.ts'

const project = fileURLToPath(new URL('..', import.meta.url))

/** Runs npm as in a shell, not as a part of the `npm test` that may have started this; gives what it prints. */
async function npm(cwd: string, ...args: string[]): Promise<string> {
  const settings = /^npm_(?!config_(registry|cache|userconfig)$)/i
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !settings.test(name)))
  const { stdout } = await promisify(execFile)('npm', args, { cwd, env, maxBuffer: 16 * 1024 * 1024 })
  return stdout
}

t.test('the example is built, passes the suite and serves files, outside of the repository', async (t) => {
  const directory = await temporaryDirectory(t)
  const plugin = join(directory, 'backend-memory')
  await cp(join(project, 'examples/backend-memory'), plugin, {
    recursive: true,
    filter: (path) => !/\/(node_modules|dist|package-lock\.json)$/.test(path),
  })
  await npm(project, 'pack', '--pack-destination', directory)
  const tarball = (await readdir(directory)).find((name) => name.endsWith('.tgz'))
  t.match(tarball, /^storage-proxy-.*\.tgz$/)
  await npm(plugin, 'install', '--prefer-offline', '--no-audit', '--no-fund', '--no-save', join(directory, tarball!))
  await npm(plugin, 'run', 'build')
  t.match(await npm(plugin, 'test'), /pass \d{2,}\n.*fail 0\n/)

  const server = await startServer(t, {
    cwd: plugin,
    env: {
      BACKEND_PLUGINS: 'storage-proxy-backend-memory',
      VOLUMES: JSON.stringify({ fast: { backend: 'memory', maxFileBytes: 1000 } }),
    },
  })
  const { volumes } = await server.ask('GET', '/volumes')
  t.match(volumes, [{ name: 'fast', backend: 'memory', capabilities: ['copy', 'usage'] }])

  const folder = await server.createFolder()
  await server.upload(folder, { 'dir/파일.txt': 'kept in memory' })
  const download = await fetch(await server.sign(folder, 'dir/파일.txt'))
  t.equal(download.status, 200)
  t.equal(await download.text(), 'kept in memory')
  const replaced = await fetch(await server.sign(folder, 'dir/파일.txt', { operation: 'upload' }), {
    method: 'PUT',
    body: 'by a signed URL',
  })
  t.equal(replaced.status, 200)
  const { entries } = await server.ask('GET', `/folders/${folder}/files?recursive=true`)
  t.match(entries, [
    { path: 'dir', type: 'directory' },
    { path: 'dir/파일.txt', size: 15 },
  ])

  // The errors are those of the plugin's own copy of the contract.
  const missing = await server.manager('GET', `/folders/${folder}/files/stat?path=missing`)
  t.equal(missing.status, 404)
  t.match(await missing.json(), { code: 'entry_not_found' })
  const mkdir = await server.manager('POST', `/folders/${folder}/files/mkdir`, { path: 'dir' })
  t.equal(mkdir.status, 200, 'a directory that is there already is as good as a new one')
})
