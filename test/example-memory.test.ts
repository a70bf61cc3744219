import t from 'tap'
import { installExample } from './example.ts'
import { startServer } from './server.ts'

t.test('backend-memory is built, passes the suite and serves files, outside of the repository', async (t) => {
  const example = await installExample(t, 'backend-memory')
  await example.npm(['run', 'build'])
  t.match(await example.npm(['test']), /pass \d{2,}\n.*fail 0\n/)

  const server = await startServer(t, {
    cwd: example.directory,
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
