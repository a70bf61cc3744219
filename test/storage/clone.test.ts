import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { call, type Posix, startPosix } from '../posix.ts'
import { eventually } from '../server.ts'
import { needing, withoutRoot } from '../tools.ts'

const old = new Date('2020-02-03T04:05:06.789Z')
const megabyte = 1024 * 1024

/** All below a directory, as one who looks at it closely sees it. */
function picture(root: string): string[] {
  const lines: string[] = []
  const look = (path: Buffer, name: string) => {
    const stats = fs.lstatSync(path)
    const what = stats.isDirectory()
      ? 'directory'
      : stats.isSymbolicLink()
        ? `-> ${fs.readlinkSync(path)}`
        : fs.readFileSync(path, 'hex').slice(0, 100_000)
    lines.push([name, stats.mode.toString(8), stats.uid, Math.round(stats.mtimeMs * 100), stats.size, what].join(' '))
    if (!stats.isDirectory()) return
    for (const child of fs.readdirSync(path, { encoding: 'buffer' })) {
      look(Buffer.concat([path, Buffer.from('/'), child]), `${name}/${child.toString('hex')}`)
    }
  }
  look(Buffer.from(root), '')
  return lines.sort()
}

function fill(root: string): void {
  fs.mkdirSync(join(root, 'a/b/c'), { recursive: true })
  fs.mkdirSync(join(root, 'empty'))
  for (let index = 0; index < 300; index++) fs.writeFileSync(join(root, 'a/b', `file-${index}`), `content ${index}`)
  fs.writeFileSync(join(root, 'a/b/c/nothing'), '')
  fs.writeFileSync(join(root, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 })
  fs.writeFileSync(join(root, 'secret'), 'x', { mode: 0o400 })
  fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/no-utf8-`), Buffer.from([0xff])]), 'n')
  fs.writeFileSync(join(root, 'naïve 文'), 'utf8')
  fs.symlinkSync('../outside', join(root, 'a/link'))
  fs.symlinkSync('nowhere', join(root, 'dangling'))
  fs.linkSync(join(root, 'run.sh'), join(root, 'a/hard'))
  for (const path of ['run.sh', 'secret', 'a/b/file-1', 'empty', 'a/b']) fs.utimesSync(join(root, path), old, old)
  fs.lutimesSync(join(root, 'dangling'), old, old)
  fs.chmodSync(join(root, 'empty'), 0o2750)
}

async function filled(posix: Posix) {
  const [from, to] = [await posix.createFolder(), await posix.createFolder()]
  fill(from.path)
  return { from, to }
}

t.test('a clone is the same to the last bit', async (t) => {
  const posix = await startPosix(t)
  const { from, to } = await filled(posix)
  execFileSync('mkfifo', [join(from.path, 'a/fifo')])
  const { cloned, checkpoints, progress } = await posix.clone(from.id, to.id)
  fs.rmSync(join(from.path, 'a/fifo'))
  fs.utimesSync(join(from.path, 'a'), old, old)
  fs.utimesSync(join(to.path, 'a'), old, old)

  t.same(picture(to.path), picture(from.path))
  const { files, bytes, changed, changedCount } = cloned
  t.same({ files, bytes }, await posix.backend.count(from.id, call))
  t.same([changed, changedCount], [[], 0])
  t.equal(progress.at(-1), files)
  t.equal(checkpoints.length, 2)
  t.same(checkpoints, JSON.parse(JSON.stringify(checkpoints)))
  t.same(await posix.openFiles(), [])
})

t.test('holes stay holes', async (t) => {
  const posix = await startPosix(t)
  const { from, to } = await filled(posix)
  const fd = fs.openSync(join(from.path, 'sparse'), 'w')
  fs.writeSync(fd, 'start', 0)
  fs.writeSync(fd, 'middle', 30 * megabyte + 5)
  fs.ftruncateSync(fd, 64 * megabyte + 1)
  fs.closeSync(fd)
  await posix.clone(from.id, to.id)
  const copy = join(to.path, 'sparse')
  t.ok(fs.readFileSync(copy).equals(fs.readFileSync(join(from.path, 'sparse'))))
  t.ok(fs.statSync(copy).blocks * 512 < megabyte)
})

t.test('a clone that goes on', async (t) => {
  const posix = await startPosix(t)
  const { from, to } = await filled(posix)
  const { checkpoints, cloned } = await posix.clone(from.id, to.id)
  // An inode number alone is given again to the next file.
  const inode = (path: string) => {
    const { ino, ctimeMs } = fs.statSync(join(to.path, path))
    return `${ino} of ${ctimeMs}`
  }
  const names = ['a/b/file-0', 'a/b/file-7', 'a/hard', 'secret', 'a/b/c/nothing']
  const inodes = () => names.map(inode)
  const before = inodes()
  const again = async (checkpoint: unknown) => {
    const result = await posix.clone(from.id, to.id, checkpoint)
    t.same(picture(to.path), picture(from.path))
    return result
  }

  // A file made in the instant in which a flush begins is not counted as flushed, and the last ones of a clone may be.
  await sleep(20)
  let last: unknown
  await t.test('copies nothing twice', async (t) => {
    const second = await again(checkpoints[0])
    t.same(inodes(), before)
    t.same(second.cloned, cloned)
    t.equal(second.progress.at(-1), cloned.files)
    last = second.checkpoints.at(-1)
  })
  await t.test('nor what was flushed before the machine started anew', async (t) => {
    await again({ ...Object(last), bootId: 'another', since: 0 })
    t.same(inodes(), before)
  })
  await t.test('but all that was not', async (t) => {
    await again({ ...Object(checkpoints[0]), bootId: 'another', since: 0 })
    t.ok(inodes().every((ino, index) => ino !== before[index]))
  })
  await t.test('or when there is no checkpoint', async (t) => {
    const old = inodes()
    await again(undefined)
    t.not(inodes()[0], old[0])
  })
  await t.test('and puts right what is not whole, not there any more, or something else now', async (t) => {
    const { checkpoints } = await posix.clone(from.id, to.id)
    fs.writeFileSync(join(to.path, 'a/b/file-3'), 'content')
    fs.mkdirSync(join(to.path, 'stray/deep'), { recursive: true })
    fs.writeFileSync(join(to.path, 'stray/deep/file'), '')
    fs.rmSync(join(from.path, 'run.sh'))
    fs.rmSync(join(from.path, 'a/b/c'), { recursive: true })
    fs.writeFileSync(join(from.path, 'a/b/c'), 'a file now')
    fs.rmSync(join(from.path, 'secret'))
    fs.mkdirSync(join(from.path, 'secret'))
    const kept = inode('a/b/file-7')
    await again(checkpoints.at(-1))
    t.equal(inode('a/b/file-7'), kept)
  })
  t.same(await posix.openFiles(), [])
})

t.test('an aborted clone stops within a second and can go on', async (t) => {
  const posix = await startPosix(t)
  const { from, to } = await filled(posix)
  const block = Buffer.alloc(megabyte, 'x')
  const fd = fs.openSync(join(from.path, 'large'), 'w')
  for (let index = 0; index < 800; index++) fs.writeSync(fd, block)
  fs.closeSync(fd)
  const controller = new AbortController()
  let abortedAt = 0
  setTimeout(() => {
    abortedAt = performance.now()
    controller.abort(new Error('enough'))
  }, 150)
  await t.rejects(posix.clone(from.id, to.id, undefined, controller.signal), { message: 'enough' })
  t.ok(performance.now() - abortedAt < 5000)
  t.same(await posix.openFiles(), [])
  const { cloned } = await posix.clone(from.id, to.id)
  t.equal(cloned.bytes, (await posix.backend.count(to.id, call)).bytes)
  t.equal(fs.statSync(join(to.path, 'large')).size, 800 * megabyte)
})

async function busy(t: Test, cwd: string, script: string) {
  const child = spawn(process.execPath, ['-e', `const fs = require('node:fs'); console.log('on'); ${script}`], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child, 'spawn')
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

t.test('a file that never rests fails the clone, by name', async (t) => {
  const posix = await startPosix(t)
  const { from } = await filled(posix)
  // Not a hole, which is copied before a busy machine lets the other process touch it.
  fs.writeFileSync(join(from.path, 'a/restless'), Buffer.alloc(128 * megabyte, 'restless'))
  await busy(t, from.path, `for (;;) fs.utimesSync('a/restless', Math.random() * 1e9, 1)`)
  // On a very busy machine the file may rest all the same, while it is copied.
  const error = await eventually(async () => {
    const to = await posix.createFolder()
    return posix.clone(from.id, to.id).then(
      () => undefined,
      (error: unknown) => error,
    )
  }, 60_000)
  t.match(error, { code: 'source_changed', message: /^a\/restless / })
  t.same(await posix.openFiles(), [])
})

t.test('entries that come and go are told', async (t) => {
  const posix = await startPosix(t)
  const { from, to } = await filled(posix)
  for (let index = 0; index < 1000; index++) fs.writeFileSync(join(from.path, 'a', `n-${index}`), '')
  await busy(
    t,
    from.path,
    `let i = 0; setInterval(() => { fs.writeFileSync('a/come-' + ++i % 9, ''); fs.rmSync('a/come-' + (i + 4) % 9, { force: true }) }, 1)`,
  )
  // One that is never at rest, by chance, fails it.
  const { cloned } = await eventually(() =>
    posix.clone(from.id, to.id).catch((error) => {
      if (error.code !== 'source_changed') throw error
      return undefined
    }),
  )
  t.ok(cloned.changed.includes('a'), cloned.changed.join())
  t.ok(cloned.changedCount >= cloned.changed.length)
})

t.test('nothing from outside, whatever is swapped with symlinks', async (t) => {
  const posix = await startPosix(t)
  const { from } = await filled(posix)
  const outside = join(posix.layout.root, 'outside')
  fs.mkdirSync(join(outside, 'sub'), { recursive: true })
  for (const name of ['file', 'sub/file', 'other']) fs.writeFileSync(join(outside, name), 'SECRET'.repeat(1000))
  fs.mkdirSync(join(from.path, 'dir/sub'), { recursive: true })
  for (const name of ['dir/file', 'dir/sub/file', 'file']) fs.writeFileSync(join(from.path, name), 'inside')
  fs.symlinkSync(outside, join(from.path, 'link'))
  fs.symlinkSync(join(outside, 'file'), join(from.path, 'file-link'))
  const swapper = await busy(
    t,
    from.path,
    `for (;;) for (const [a, b] of [['dir', 'link'], ['file', 'file-link'], ['link', 'dir'], ['file-link', 'file']]) {
       fs.renameSync(a, 'aside'); fs.renameSync(b, a); fs.renameSync('aside', b) }`,
  )
  let whole = 0
  for (let round = 0; round < 8; round++) {
    const to = await posix.createFolder()
    await posix.clone(from.id, to.id).then(
      () => whole++,
      // A file that is renamed each time it is copied counts as one that never rests.
      (error) => t.match(error, { code: 'source_changed' }),
    )
    t.equal(spawnSync('grep', ['-r', 'SECRET', to.path]).status, 1, 'no byte from outside')
    await posix.backend.removeFolder(to.id, call)
  }
  t.ok(whole > 0, `${whole} clones were whole`)
  t.equal(swapper.exitCode, null, 'swapped until the end')
  t.same(await posix.openFiles(), [])
})

t.test('an unreadable file is named', needing('setpriv'), async (t) => {
  const posix = await startPosix(t)
  const { from, to } = await filled(posix)
  fs.chmodSync(join(from.path, 'a/b/file-4'), 0)
  const module = new URL('../posix.ts', import.meta.url)
  const script = `
    const { posixIn } = await import(${JSON.stringify(module)})
    const posix = await posixIn(${JSON.stringify(posix.layout.root)})
    const error = await posix.clone(${JSON.stringify(from.id)}, ${JSON.stringify(to.id)}).catch((error) => error)
    console.log(error.code, error.message)`
  const node = [process.execPath, '--input-type=module', '-e', script]
  const [command = '', ...args] = [...withoutRoot, ...node]
  const output = execFileSync(command, args, { encoding: 'utf8' })
  t.equal(output, 'entry_access_denied the storage denies access to a/b/file-4\n')
})
