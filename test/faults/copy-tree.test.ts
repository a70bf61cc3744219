import { execFile } from 'node:child_process'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { chmod, mkdir, readdir, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { eventually, managerToken, type Server, startServer, temporaryDirectory } from '../server.ts'

const run = promisify(execFile)

function fill(root: string, files: number): void {
  for (let directory = 0; directory < 20; directory++) {
    mkdirSync(join(root, `dir-${directory}`), { recursive: true })
    for (let file = 0; file < files / 20; file++) {
      writeFileSync(join(root, `dir-${directory}/file-${file}`), `${directory} ${file}`)
    }
  }
}

/** Asks for a copy as a client that may go away. */
function beginCopy(server: Server, folder: string, to: string) {
  const body = JSON.stringify({ from: 'tree', to })
  const headers = { authorization: `Bearer ${managerToken}`, 'content-type': 'application/json' }
  const asked = request(`${server.managerUrl}/folders/${folder}/files/copy`, { method: 'POST', headers })
  asked.on('error', () => {})
  asked.end(body)
  return asked
}

const server = await startServer(t)

t.test('a copy of a directory keeps what a clone keeps', async (t) => {
  const { folder, mount, post } = await filesOf(server)
  const tree = join(mount, 'tree')
  await mkdir(join(tree, 'empty'), { recursive: true })
  await writeFile(join(tree, 'run.sh'), '#!/bin/sh\n')
  await chmod(join(tree, 'run.sh'), 0o755)
  await symlink('run.sh', join(tree, 'link'))
  await writeFile(join(tree, 'sparse'), 'begin')
  truncateSync(join(tree, 'sparse'), 64 * 1024 * 1024)
  for (const name of ['run.sh', 'empty', '.']) await utimes(join(tree, name), 1_000_000_000, 1_000_000_000)
  t.match(await post('copy', { from: 'tree', to: 'a/copy' }), [201, { path: 'a/copy', type: 'directory' }])
  await run('diff', ['-r', '--no-dereference', tree, join(mount, 'a/copy')])
  const stats = await stat(join(mount, 'a/copy/run.sh'))
  t.equal(stats.mode & 0o777, 0o755)
  for (const name of ['run.sh', 'empty', '.']) {
    t.equal((await stat(join(mount, 'a/copy', name))).mtimeMs, 1_000_000_000_000, name)
  }
  t.ok((await stat(join(mount, 'a/copy/sparse'))).blocks * 512 < 1024 * 1024, 'holes stay holes')
  t.match(await server.ask('GET', `/folders/${folder}`), { usage: { files: 3 } })
  t.match(await post('copy', { from: 'tree', to: 'a/copy' }), [409, { code: 'entry_exists' }])
  t.same(await server.staged(), [])
})

t.test('a client that gives up leaves nothing, and may ask again', async (t) => {
  const { folder, mount, post } = await filesOf(server)
  fill(join(mount, 'tree'), 5000)
  for (const wait of [1, 30, 100, 200]) {
    const asked = beginCopy(server, folder, 'copy')
    await sleep(wait)
    asked.destroy()
    await eventually(async () => (await server.staged()).length === 0)
    if ((await readdir(mount)).includes('copy')) {
      t.equal(await countFiles(join(mount, 'copy')), 5000)
      await post('delete', { paths: ['copy'], recursive: true })
    }
    t.same(await readdir(mount), ['tree'], `after ${wait} ms`)
  }
  t.equal((await post('copy', { from: 'tree', to: 'copy' }))[0], 201)
  await run('diff', ['-r', join(mount, 'tree'), join(mount, 'copy')])
})

t.test('a process that is killed leaves nothing that is seen', async (t) => {
  const dataDir = await temporaryDirectory(t)
  const env = { LEASE_SECONDS: '1', IDLE_TIMEOUT_SECONDS: '1', UPLOAD_CLEANUP_INTERVAL_SECONDS: '1' }
  let server = await startServer(t, { dataDir, env })
  const { folder, mount } = await filesOf(server)
  fill(join(mount, 'tree'), 5000)
  await server.ask('POST', `/folders/${folder}/sync`)
  for (const wait of [20, 100, 250]) {
    beginCopy(server, folder, 'copy')
    await sleep(wait)
    await server.end('SIGKILL')
    const names = await readdir(mount)
    t.ok(names.length === 1 || (await countFiles(join(mount, 'copy'))) === 5000, `after ${wait} ms`)
    server = await startServer(t, { dataDir, env })
    if (names.length === 2)
      await server.ask('POST', `/folders/${folder}/files/delete`, { paths: ['copy'], recursive: true })
  }
  await eventually(async () => (await server.staged()).length === 0)
  const again = await server.manager('POST', `/folders/${folder}/files/copy`, { from: 'tree', to: 'copy' })
  t.equal(again.status, 201)
  await run('diff', ['-r', join(mount, 'tree'), join(mount, 'copy')])
})

t.test('a quota holds for what was added since it was counted, too', async (t) => {
  const server = await startServer(t)
  const folder = await server.createFolder({ quota: { files: 30 } })
  const mount = await server.mountOf(folder)
  await server.firstCount()
  fill(join(mount, 'tree'), 20)
  const refused = await server.manager('POST', `/folders/${folder}/files/copy`, { from: 'tree', to: 'first' })
  t.equal(refused.status, 201, 'nobody has counted the tree itself')
  const second = await server.manager('POST', `/folders/${folder}/files/copy`, { from: 'tree', to: 'second' })
  t.match(await second.json(), { status: 507, code: 'quota_exceeded' })
  t.same((await readdir(mount)).toSorted(), ['first', 'tree'])
  t.match(await server.ask('GET', `/folders/${folder}`), { usage: { files: 20 } })
  t.same(await server.staged(), [])
})

async function filesOf(server: Server) {
  const files = await server.files()
  return { folder: files.folder, mount: files.mount, post: files.post.bind(files) }
}

async function countFiles(directory: string): Promise<number> {
  return (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).length
}
