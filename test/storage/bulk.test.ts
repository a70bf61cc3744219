import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { parsePath } from '../../backends/path.ts'
import { mostNames } from '../../backends/posix/bulk/subdirectories.ts'
import { call, startPosix } from '../posix.ts'

const outsideContent = 'not to be touched'

/** A tree of more levels than a path can have. */
function deepTree(root: string, levels: number): void {
  const script = `for (let i = 0; i < ${levels}; i++) {
    fs.mkdirSync('level'); fs.writeFileSync('file', 'x'); process.chdir('level') }`
  execFileSync(process.execPath, ['-e', `const fs = require('node:fs'); ${script}`], { cwd: root })
}

t.test('count', async (t) => {
  const posix = await startPosix(t)
  const { id, path } = await posix.createFolder()
  t.same(await posix.backend.count(id, call), { files: 0, bytes: 0 })

  for (let directory = 0; directory < 30; directory++) {
    fs.mkdirSync(join(path, `d-${directory}/sub`), { recursive: true })
    for (let file = 0; file < 200; file++) fs.writeFileSync(join(path, `d-${directory}`, `f-${file}`), 'xy')
    fs.writeFileSync(join(path, `d-${directory}/sub/é`), 'xyz')
  }
  fs.linkSync(join(path, 'd-1/f-1'), join(path, 'hard'))
  fs.symlinkSync('/etc', join(path, 'link'))
  execFileSync('mkfifo', [join(path, 'fifo')])
  const expected = { files: 30 * 201 + 2, bytes: 30 * (400 + 3) + 2 }
  t.same(await posix.backend.count(id, call), expected)
  await new Promise((resolve) => setTimeout(resolve, 2500))
  t.same(await posix.backend.count(id, call), expected, 'of directories at rest')
  t.same(await Promise.all(Array.from({ length: 40 }, () => posix.backend.count(id, call))), Array(40).fill(expected))

  await t.rejects(posix.backend.count('missing', call), { code: 'entry_not_found' })
  await t.rejects(posix.backend.count(id, { signal: AbortSignal.abort(new Error('enough')) }), { message: 'enough' })
  t.same(await posix.openFiles(), [])
})

t.test('a tree that is deeper than a path can be', async (t) => {
  const posix = await startPosix(t)
  const [from, to] = [await posix.createFolder(), await posix.createFolder()]
  const levels = 1500
  deepTree(from.path, levels)
  const expected = { files: levels, bytes: levels }
  t.same(await posix.backend.count(from.id, call), expected)
  t.match((await posix.clone(from.id, to.id)).cloned, { ...expected, changed: [] })
  t.same(await posix.backend.remove(from.id, parsePath('level'), { ...call, recursive: true }), {
    files: levels - 1,
    bytes: levels - 1,
  })
  await posix.backend.removeFolder(to.id, call)
  t.same(fs.readdirSync(posix.layout.trash), [])
  t.same(fs.readdirSync(posix.layout.staging), [])
  t.same(await posix.openFiles(), [])
})

t.test('more subdirectories than have their names in memory', async (t) => {
  const posix = await startPosix(t)
  const [from, to] = [await posix.createFolder(), await posix.createFolder()]
  const directories = mostNames + 500
  for (let index = 0; index < directories; index++)
    fs.mkdirSync(join(from.path, 'many', `é-${index}`), { recursive: true })
  for (let index = 0; index < directories; index += 100)
    fs.writeFileSync(join(from.path, 'many', `é-${index}`, 'f'), 'x')
  const files = Math.ceil(directories / 100)
  t.same(await posix.backend.count(from.id, call), { files, bytes: files })
  t.match((await posix.clone(from.id, to.id)).cloned, { files, bytes: files, changedCount: 0 })
  t.equal(fs.readdirSync(join(to.path, 'many')).length, directories)
  t.same(await posix.backend.remove(to.id, parsePath('many'), { ...call, recursive: true }), { files, bytes: files })
  t.same(fs.readdirSync(posix.layout.staging), [])
  t.same(await posix.openFiles(), [])
})

t.test('removal', async (t) => {
  const posix = await startPosix(t)
  const outside = join(posix.layout.root, 'outside')
  fs.mkdirSync(outside)
  fs.writeFileSync(join(outside, 'file'), outsideContent)
  const fill = (path: string) => {
    for (let directory = 0; directory < 50; directory++) {
      fs.mkdirSync(join(path, `d-${directory}/sub`), { recursive: true })
      for (let file = 0; file < 200; file++) fs.writeFileSync(join(path, `d-${directory}`, `f-${file}`), 'xy')
      fs.symlinkSync(outside, join(path, `d-${directory}/link`))
    }
    fs.chmodSync(join(path, 'd-3'), 0o555)
  }

  await t.test('of a vfolder, with what an earlier call left', async (t) => {
    const { id, path } = await posix.createFolder()
    const other = await posix.createFolder()
    fill(path)
    for (const name of [`${id}.left`, `${other.id}.left`]) {
      fs.mkdirSync(join(posix.layout.trash, name))
      fs.writeFileSync(join(posix.layout.trash, name, 'file'), '')
    }
    const controller = new AbortController()
    const removed = posix.backend.removeFolder(id, { signal: controller.signal })
    setTimeout(() => controller.abort(new Error('enough')), 15)
    await removed.catch((error) => t.equal(error.message, 'enough'))
    t.notOk(fs.existsSync(path), 'vanished at once')

    let files = 0
    await posix.backend.removeFolder(id, {
      ...call,
      onProgress: (done) => {
        files = done.files
      },
    })
    t.same(fs.readdirSync(posix.layout.trash), [`${other.id}.left`])
    t.ok(files > 0)
    await posix.backend.removeFolder(id, call)
  })

  await t.test('of a directory', async (t) => {
    const { id, path } = await posix.createFolder()
    fill(join(path, 'tree'))
    const removed = await posix.backend.remove(id, parsePath('tree'), { ...call, recursive: true })
    t.same(removed, { files: 50 * 201, bytes: 50 * 400 })
    t.same([fs.readdirSync(path), fs.readdirSync(posix.layout.staging)], [[], []])
  })

  await t.test('of what was staged and is idle, not of what is in the trash', async (t) => {
    const staged = (name: string) => join(posix.layout.staging, name)
    fs.writeFileSync(staged('file'), 'four')
    fs.mkdirSync(staged('tree/sub'), { recursive: true })
    fs.writeFileSync(staged('tree/sub/file'), 'five5')
    // As a file has it that is about to appear as the copy of an old one.
    for (const name of ['file', 'tree']) fs.utimesSync(staged(name), 1, 1)
    t.same(await posix.backend.collectGarbage({ ...call, idleSeconds: 2 }), { files: 0, bytes: 0 })
    await sleep(2100)
    fs.writeFileSync(staged('living'), '')
    t.same(await posix.backend.collectGarbage({ ...call, idleSeconds: 2 }), { files: 2, bytes: 9 })
    t.same(fs.readdirSync(posix.layout.staging), ['living'])
    t.equal(fs.readdirSync(posix.layout.trash).length, 1)
  })
  t.equal(fs.readFileSync(join(outside, 'file'), 'utf8'), outsideContent)
  t.same(await posix.openFiles(), [])
})

t.test('the threads keep no process from ending', async (t) => {
  const posix = await startPosix(t)
  const { id } = await posix.createFolder()
  const module = JSON.stringify(new URL('../posix.ts', import.meta.url))
  const script = `
    const { posixIn, call } = await import(${module})
    const posix = await posixIn(${JSON.stringify(posix.layout.root)})
    console.log(await posix.backend.count('${id}', call))`
  execFileSync(process.execPath, ['--input-type=module', '-e', script], { timeout: 60_000 })
  t.pass('it came to its end')
})
