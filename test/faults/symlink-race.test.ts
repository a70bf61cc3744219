import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startServer } from '../server.ts'

const rounds = 150

/** Lets another process swap `dir` with a symlink that leads outside, over and over. */
async function swap(t: Test, mount: string): Promise<ChildProcess> {
  const script = `
    import { renameSync } from 'node:fs'
    process.chdir(process.argv[1])
    let strays = 0
    function place(from, to) {
      try {
        renameSync(from, to)
      } catch {
        renameSync(to, 'stray-' + strays++) // a write has made a directory while there was none
        place(from, to)
      }
    }
    console.log('swapping')
    for (;;) {
      place('dir', 'aside'); place('link', 'dir')
      place('dir', 'link'); place('aside', 'dir')
    }`
  const swapper = spawn(process.execPath, ['--input-type=module', '-e', script, mount], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(swapper, 'spawn')
  t.teardown(() => swapper.kill('SIGKILL'))
  await once(swapper.stdout, 'data')
  return swapper
}

t.test('a directory that is swapped with a symlink all the time leads nowhere outside', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const outside = join(server.dataDir, 'outside')
  await mkdir(join(outside, 'sub'), { recursive: true })
  // It has the names that are inside, so that every operation would find its file there.
  for (const name of ['file', 'victim', 'sub/victim']) await writeFile(join(outside, name), 'SECRET')
  await files.upload({ 'dir/file': 'inside', 'dir/sub/file': 'inside' })
  await symlink(outside, join(files.mount, 'link'))
  const before = await readdir(outside, { recursive: true })
  const swapper = await swap(t, files.mount)

  const url = `/folders/${files.folder}`
  const form = () => {
    const form = new FormData()
    form.append('file', new Blob(['written']), 'written')
    return form
  }
  const operations: Record<string, (round: number) => Promise<Response>> = {
    read: () => server.manager('GET', `${url}/content/dir/file`),
    stat: () => server.manager('GET', `${url}/files/stat?path=dir/victim`),
    list: () => server.manager('GET', `${url}/files?path=dir&recursive=true`),
    write: () => server.manager('POST', `/folders/upload?folder=${files.folder}&path=dir`, form()),
    'write deeper': (round) =>
      server.manager('POST', `/folders/upload?folder=${files.folder}&path=dir/n/${round}`, form()),
    mkdir: (round) => server.manager('POST', `${url}/files/mkdir`, { path: `dir/made/${round}` }),
    move: () => server.manager('POST', `${url}/files/move`, { from: 'dir/victim', to: 'moved', overwrite: true }),
    'move into': (round) =>
      server.manager('POST', `${url}/files/move`, { from: `to-move-${round}`, to: `dir/m-${round}` }),
    copy: () => server.manager('POST', `${url}/files/copy`, { from: 'dir/file', to: 'copied', overwrite: true }),
    delete: () => server.manager('POST', `${url}/files/delete`, { paths: ['dir/victim', 'dir/sub/victim'] }),
    'delete a tree': () => server.manager('POST', `${url}/files/delete`, { paths: ['dir/sub'], recursive: true }),
  }
  const statuses = new Map<string, Set<number>>(Object.keys(operations).map((name) => [name, new Set()]))
  let secrets = 0
  for (let round = 0; round < rounds; round++) {
    await writeFile(join(files.mount, `to-move-${round}`), '')
    await Promise.all(
      Object.entries(operations).map(async ([name, operate]) => {
        const response = await operate(round)
        statuses.get(name)?.add(response.status)
        if ((await response.text()).includes('SECRET')) secrets++
      }),
    )
  }
  t.ok(swapper.kill('SIGKILL'), 'swapped until the end')

  t.equal(secrets, 0, 'no byte from outside was read')
  t.same(await readdir(outside, { recursive: true }), before, 'nothing was made or deleted outside')
  for (const name of ['file', 'victim', 'sub/victim']) t.equal(await readFile(join(outside, name), 'utf8'), 'SECRET')
  for (const name of ['moved', 'copied']) {
    const content = await readFile(join(files.mount, name), 'utf8').catch(() => 'not there')
    t.notMatch(content, 'SECRET', name)
  }
  for (const [name, seen] of statuses) {
    t.ok(seen.has(403), `${name} met the symlink: ${[...seen]}`)
    t.ok(
      [...seen].every((status) => status < 500),
      `${name} never failed: ${[...seen]}`,
    )
  }
  for (const name of ['read', 'list', 'write', 'mkdir', 'copy']) {
    t.ok(
      [...(statuses.get(name) ?? [])].some((status) => status < 300),
      `${name} met the directory too`,
    )
  }
  t.same(await server.staged(), [])
})
