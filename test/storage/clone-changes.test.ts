import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startPosix } from '../posix.ts'
import { ended, eventually, startServer, temporaryDirectory } from '../server.ts'

t.test('a file that is written to while its vfolder is cloned is told', async (t) => {
  const posix = await startPosix(t)
  const [from, to] = [await posix.createFolder(), await posix.createFolder()]
  for (let index = 0; index < 3000; index++) fs.writeFileSync(join(from.path, `file-${index}`), `content ${index}`)
  const script = `const fs = require('node:fs'); console.log('on')
    setInterval(() => fs.writeFileSync('file-7', String(Math.random())), 20)`
  const writer = spawn(process.execPath, ['-e', script], { cwd: from.path, stdio: ['ignore', 'pipe', 'inherit'] })
  await once(writer, 'spawn')
  t.teardown(() => writer.kill('SIGKILL'))
  await once(writer.stdout, 'data')
  const { cloned } = await posix.clone(from.id, to.id)
  t.same([cloned.changed, cloned.changedCount], [['file-7'], 1])
})

t.test('a clone between volumes', async (t) => {
  const root = await temporaryDirectory(t)
  const volumes = {
    default: { backend: 'posix', root: join(root, 'default') },
    other: { backend: 'posix', root: join(root, 'other') },
  }
  const server = await startServer(t, { env: { VOLUMES: JSON.stringify(volumes) } })
  const source = await server.files()
  const hourAgo = new Date(Date.now() - 3_600_000)
  for (let index = 1000; index < 4000; index++) {
    const path = join(source.mount, `file-${index}`)
    await writeFile(path, `content ${index}`)
    await utimes(path, hourAgo, hourAgo)
  }
  const { job } = await server.ask('POST', `/folders/${source.folder}/clone`, { volume: 'other' })
  await eventually(async () => (await server.ask('GET', `/jobs/${job.id}`)).progress.filesDone > 100)
  await writeFile(join(source.mount, 'file-1000'), 'CONTENT 1000')
  await writeFile(join(source.mount, 'file-0999'), 'new')
  await rm(join(source.mount, 'file-1001'))
  t.equal((await server.ask('GET', `/jobs/${job.id}`)).state, 'running', 'all that happened in the middle')
  const { state, result } = await ended(server, job.id)
  t.equal(state, 'succeeded')
  t.same(result.changed, ['file-0999', 'file-1000', 'file-1001'], 'what came, changed and went is told')
})
