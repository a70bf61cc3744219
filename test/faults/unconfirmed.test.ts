import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import t from 'tap'
import { type Server, startServer, type Teardown } from '../server.ts'
import { needing } from '../tools.ts'
import { chunkType, create, signTus, tus } from '../tus.ts'

/** Lets each fsync(2) of a directory fail, until the end that it gives. */
async function failFlushes(t: Teardown, server: Server, directory: string): Promise<() => Promise<void>> {
  const inject = ['-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO', '-o', '/dev/null']
  const strace = spawn('strace', ['-f', '-p', `${server.process.pid}`, '-P', directory, ...inject], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const end = async () => {
    if (strace.exitCode !== null || strace.signalCode !== null) return
    strace.kill('SIGINT')
    await once(strace, 'exit')
  }
  t.teardown(end)
  await new Promise<void>((resolve, reject) => {
    strace.stderr.on('data', (text) => String(text).includes('attached') && resolve())
    strace.once('exit', () => reject(new Error('strace cannot attach')))
  })
  return end
}

t.test('what was changed counts, though the disk fails before it is sure to last', needing('strace'), async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const { folder, mount } = files
  const other = await server.files()
  await files.upload({ old: '123', moved: '1234567', 'tree/a': '12', 'tree/b/c': '34', 'away/d': '5' })
  const post = async (operation: string, body: object) => {
    const [status, answer] = await files.post(operation, body)
    t.match([status, answer.code], [503, 'storage_unavailable'], operation)
    return answer
  }
  const usages = async () => [await files.usage(), await other.usage()]
  const stop = await failFlushes(t, server, mount)

  const put = async (path: string, body: string) => {
    const url = await server.sign(folder, path, { operation: 'upload' })
    const response = await fetch(url, { method: 'PUT', body })
    t.equal(response.status, 503, path)
    return server.ask('GET', `/folders/${folder}/files/stat?path=${path}`)
  }
  t.match(await put('new', '12345'), { size: 5 })
  t.match(await put('old', '1234'), { size: 4 })
  t.same(await files.usage(), { files: 6, bytes: 21 })

  await post('copy', { from: 'tree', to: 'copied' })
  await post('copy', { from: 'new', to: 'copied file' })
  t.same(await files.usage(), { files: 9, bytes: 30 })
  await post('move', { from: 'new', to: 'old', overwrite: true })
  t.same(await files.usage(), { files: 8, bytes: 26 })
  await post('move', { from: 'away', to: 'away', toFolder: other.folder })
  t.same(await usages(), [
    { files: 7, bytes: 25 },
    { files: 1, bytes: 1 },
  ])
  const answer = await post('delete', { paths: ['missing', 'moved', 'old'] })
  t.match(answer, { deleted: ['moved'], missing: ['missing'] })
  t.match(await post('delete', { paths: ['copied'], recursive: true }), { deleted: ['copied'] })
  t.same(await files.usage(), { files: 4, bytes: 14 })

  const upload = await create(await signTus({ server, folder }, 'uploaded'), 6)
  t.equal((await tus('PATCH', upload, { ...chunkType, 'upload-offset': '0' }, '123456')).status, 503)
  await stop()
  t.equal((await tus('PATCH', upload, { ...chunkType, 'upload-offset': '6' }, '')).status, 204)
  t.same(await files.usage(), { files: 5, bytes: 20 })
  t.same((await readdir(mount)).toSorted(), ['copied file', 'old', 'tree', 'uploaded'])
  t.same(await server.staged(), [])
})
