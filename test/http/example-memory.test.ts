import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { installExample } from '../example.ts'
import { type Server, startServer } from '../server.ts'

async function signUpload(server: Server, folder: string, path: string): Promise<{ url: string; tusUrl: string }> {
  return (await server.ask('POST', `/folders/${folder}/signed-urls`, { operation: 'upload', paths: [path] }))
    .signedUrls[0]
}

/** The first answer to a PUT that sends no byte before it is told to. */
async function putAfterAsking(url: string, bytes: number): Promise<{ status: number; answer: string }> {
  const { hostname, port, pathname, search } = new URL(url)
  const socket = connect(Number(port), hostname)
  const head = ['Host: x', 'Expect: 100-continue', `Content-Length: ${bytes}`, 'Connection: close']
  socket.write(`PUT ${pathname}${search} HTTP/1.1\r\n${head.join('\r\n')}\r\n\r\n`)
  const [first] = await once(socket, 'data')
  socket.destroy()
  const [top = '', answer = ''] = String(first).split('\r\n\r\n')
  return { status: Number(top.split(' ')[1]), answer }
}

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
  t.match(volumes, [{ name: 'fast', backend: 'memory', capabilities: ['copy', 'count', 'trash'] }])

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

  // The client learns the limit before it sends a byte.
  const { url, tusUrl } = await signUpload(server, folder, 'large')
  const { status, answer } = await putAfterAsking(url, 1001)
  t.match([status, answer], [413, /"code":"file_too_large".*"maxBytes":1000/])
  for (const headers of [{ 'upload-length': '1001' }, { 'upload-length': '1001', 'upload-concat': 'partial' }]) {
    const response = await fetch(tusUrl, { method: 'POST', headers: { 'tus-resumable': '1.0.0', ...headers } })
    t.match([response.status, await response.json()], [413, { code: 'file_too_large', maxBytes: 1000 }])
  }
  t.equal((await putAfterAsking(url, 1000)).status, 100)

  // The errors are those of the plugin's own copy of the contract.
  const missing = await server.manager('GET', `/folders/${folder}/files/stat?path=missing`)
  t.equal(missing.status, 404)
  t.match(await missing.json(), { code: 'entry_not_found' })
  const mkdir = await server.manager('POST', `/folders/${folder}/files/mkdir`, { path: 'dir' })
  t.equal(mkdir.status, 200, 'a directory that is there already is as good as a new one')
})
