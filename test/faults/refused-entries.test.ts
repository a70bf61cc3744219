import { execFile } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { type Answer, ended, eventually, type Server, startServer } from '../server.ts'
import { Strace } from '../strace.ts'
import { amongMountsOf, needing, withOwnMounts, withoutRoot } from '../tools.ts'

const run = promisify(execFile)

async function ask(server: Server, method: string, path: string, body?: object): Promise<Answer> {
  const response = await server.manager(method, path, body)
  return { status: response.status, ...((await response.json()) as object) }
}

t.test('entries that the service may not use', needing('setpriv'), async (t) => {
  const server = await startServer(t, { through: withoutRoot })
  const files = await server.files()
  await files.upload({ 'open/a.txt': 'a', 'open/closed/b.txt': 'b', 'open/secret.txt': 'secret', 'top.txt': 'top' })
  const closed = join(files.mount, 'open/closed')
  await chmod(closed, 0)
  await chmod(join(files.mount, 'open/secret.txt'), 0)
  t.teardown(() => chmod(closed, 0o755))
  const folder = `/folders/${files.folder}`
  const refused = { status: 403, code: 'entry_access_denied' }
  const refusedAt = (detail: RegExp) => ({ ...refused, detail })

  t.match(await ask(server, 'GET', `${folder}/files?recursive=true`), refusedAt(/open\/closed/), 'a recursive listing')
  t.match(await ask(server, 'GET', `${folder}/files?path=open/closed`), refusedAt(/open\/closed/), 'a listing')
  t.match((await ask(server, 'GET', `${folder}/files?path=open`)).entries.length, 3, 'it is listed by itself')
  t.match(await ask(server, 'GET', `${folder}/content/open/secret.txt`), refusedAt(/open\/secret\.txt/), 'a read')
  t.match(await ask(server, 'GET', `${folder}/files/stat?path=open/closed/b.txt`), refused, 'stat')
  const post = async (operation: string, body: object) => (await files.post(operation, body))[1]
  t.match(await post('copy', { from: 'open/secret.txt', to: 'x' }), refusedAt(/open\/secret\.txt/), 'a copy')
  t.match(await post('copy', { from: 'open', to: 'x' }), refusedAt(/open\/closed/), 'a copy of a directory')
  t.match(await post('mkdir', { path: 'open/closed/new' }), refused, 'mkdir')
  t.match(await post('move', { from: 'top.txt', to: 'open/closed/top.txt' }), refused, 'a move')
  t.match(await post('delete', { paths: ['open/closed/b.txt'] }), refused, 'a deletion')
  const form = new FormData()
  form.append('file', new Blob(['new']), 'new.txt')
  const upload = await server.manager('POST', `/folders/upload?folder=${files.folder}&path=open/closed`, form)
  t.match(await upload.json(), refused, 'an upload')

  for (const format of ['zip', 'tar']) {
    const archive = await fetch((await server.signArchive(files.folder)).replace('archive=zip', `archive=${format}`))
    t.match(await archive.json(), refusedAt(/open\/closed/), `an archive, before its first byte: ${format}`)
  }
  await chmod(closed, 0o755)
  const archive = await server.signArchive(files.folder)
  t.match(await (await fetch(archive)).json(), refusedAt(/open\/secret\.txt/), 'nor of one whose file is found later')
  await files.upload({ 'a-large.bin': new Uint8Array(2_000_000) })
  const cut = await fetch(archive)
  await t.rejects(cut.arrayBuffer(), 'an archive is not ended as if it were whole')
  await server.logged(({ level, err }) => level === 50 && /open\/secret\.txt/.test(JSON.stringify(err)))
  t.same(await readdir(files.mount), ['a-large.bin', 'open', 'top.txt'], 'nothing was left')
  t.same(await server.staged(), [])
  t.match(await (await fetch(`${server.managerUrl}/readyz`)).json(), { status: 'ready' })
})

t.test('a volume that the service may not enter', needing('setpriv'), async (t) => {
  const server = await startServer(t, { through: withoutRoot })
  const files = await server.files()
  await files.upload({ 'a.txt': 'a' })
  const root = join(server.dataDir, 'volumes/default')
  await chmod(join(root, 'folders'), 0)
  t.teardown(() => chmod(join(root, 'folders'), 0o755))
  const refused = { status: 503, code: 'storage_access_denied' }
  t.match(await ask(server, 'GET', `/folders/${files.folder}/files`), refused)
  t.match(await ask(server, 'GET', `/folders/${files.folder}/content/a.txt`), refused)
  t.match(await ask(server, 'POST', '/folders', {}), refused)
})

t.test(
  'another filesystem inside a vfolder',
  needing('mount', 'nsenter', 'unshare', 'mounts of its own'),
  async (t) => {
    const server = await startServer(t, { through: [...withOwnMounts] })
    const files = await server.files()
    await files.upload({ 'dir/mnt/below.txt': 'below', 'a.txt': 'a', 'tree/b.txt': 'b' })
    const [nsenter = '', ...inside] = amongMountsOf(server.process.pid)
    const within = (...command: string[]) => run(nsenter, [...inside, ...command])
    const mount = join(files.mount, 'dir/mnt')
    await within('mount', '-t', 'tmpfs', 'none', mount)
    await within('sh', '-c', `mkdir '${mount}/sub' && echo other > '${mount}/other.txt' && echo x > '${mount}/sub/x'`)

    const post = async (operation: string, body: object) => (await files.post(operation, body))[1]
    const refused = { status: 409, code: 'invalid_operation', detail: /filesystem/ }
    t.match(await post('move', { from: 'a.txt', to: 'dir/mnt/a.txt' }), refused, 'a file into it')
    t.match(await post('move', { from: 'a.txt', to: 'dir/mnt/a.txt', overwrite: true }), refused)
    t.match(await post('move', { from: 'dir/mnt/other.txt', to: 'o.txt' }), refused, 'a file out of it')
    t.match(await post('move', { from: 'tree', to: 'dir/mnt/tree' }), refused, 'a directory into it')
    t.match(await post('move', { from: 'dir/mnt', to: 'mnt' }), refused, 'the mount point')
    t.match(await post('move', { from: 'dir', to: 'moved' }), refused, 'what it is mounted in')
    t.match(await post('copy', { from: 'a.txt', to: 'dir/mnt/a.txt' }), refused, 'a copy into it')
    t.match(await post('copy', { from: 'tree', to: 'dir/mnt/tree' }), refused, 'a copy of a directory into it')
    t.match(await post('delete', { paths: ['dir'], recursive: true }), refused, 'a deletion of what it is in')
    t.match(await post('delete', { paths: ['dir/mnt'], recursive: true }), refused, 'a deletion of the mount point')
    t.match(await post('delete', { paths: ['dir/mnt/sub'], recursive: true }), refused, 'of a directory on it')
    t.match(await ask(server, 'DELETE', `/folders/${files.folder}`).then(({ job }) => ended(server, job.id)), {
      state: 'failed',
      error: { code: 'invalid_operation', detail: /mounted at dir\/mnt/ },
    })
    const { stdout } = await within('find', files.mount, '-type', 'f', '-printf', '%P\n')
    const found = stdout.trim().split('\n').sort()
    t.same(found, ['a.txt', 'dir/mnt/other.txt', 'dir/mnt/sub/x', 'tree/b.txt'], 'nothing was lost or left')
    t.same(await server.staged(), [])
  },
)

t.test(
  'entries are copied out of another filesystem',
  needing('mount', 'nsenter', 'unshare', 'mounts of its own'),
  async (t) => {
    const server = await startServer(t, { through: [...withOwnMounts] })
    const files = await server.files()
    await files.upload({ 'mnt/below.txt': 'below' })
    const mount = join(files.mount, 'mnt')
    const [nsenter = '', ...inside] = amongMountsOf(server.process.pid)
    const script = `mount -t tmpfs none '${mount}' && echo other > '${mount}/o.txt'`
    await run(nsenter, [...inside, 'sh', '-c', script])
    t.match(await files.post('copy', { from: 'mnt/o.txt', to: 'o.txt' }), [201])
    t.match(await files.post('copy', { from: 'mnt', to: 'copied' }), [201])
    t.equal(await readFile(join(files.mount, 'o.txt'), 'utf8'), 'other\n')
    t.equal(await readFile(join(files.mount, 'copied/o.txt'), 'utf8'), 'other\n')
  },
)

t.test('a file that is written to while it is copied', needing('strace'), async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const path = join(files.mount, 'busy.bin')
  await writeFile(path, Buffer.alloc(1024 * 1024))
  await Strace.attach(t, server.process, 'inject=copy_file_range,sendfile:delay_enter=100000')
  const writing = setInterval(() => appendFileSync(path, 'x'), 5)
  t.teardown(() => clearInterval(writing))
  for (let count = 0; count < 2; count++) {
    const [status, answer] = await files.post('copy', { from: 'busy.bin', to: `copy-${count}.bin` })
    t.match([status, answer.code], [409, 'source_changed'])
  }
  t.same(await readdir(files.mount), ['busy.bin'])
  t.same(await server.staged(), [])
})

/** What a caller is told where mkdir(2), rename(2) and link(2) fail. */
const answers = {
  EACCES: { status: 403, code: 'entry_access_denied' },
  EPERM: { status: 403, code: 'entry_access_denied' },
  EROFS: { status: 503, code: 'storage_access_denied' },
  EXDEV: { status: 409, code: 'invalid_operation' },
  EINVAL: { status: 409, code: 'invalid_operation' },
  EOPNOTSUPP: { status: 409, code: 'invalid_operation' },
  ELOOP: { status: 409, code: 'invalid_operation' },
  ENOTDIR: { status: 409, code: 'not_a_directory' },
  EISDIR: { status: 409, code: 'is_a_directory' },
  ENAMETOOLONG: { status: 400, code: 'invalid_path' },
  EILSEQ: { status: 400, code: 'invalid_path' },
  ENOSPC: { status: 507, code: 'no_space' },
  EMLINK: { status: 507, code: 'no_space' },
  EFBIG: { status: 507, code: 'no_space' },
  EOVERFLOW: { status: 507, code: 'no_space' },
  EDQUOT: { status: 507, code: 'quota_exceeded' },
  EBUSY: { status: 503, code: 'entry_busy' },
  ETXTBSY: { status: 503, code: 'entry_busy' },
  EIO: { status: 503, code: 'storage_unavailable' },
  ESTALE: { status: 503, code: 'storage_unavailable' },
  ENOTCONN: { status: 503, code: 'storage_unavailable' },
  EHOSTDOWN: { status: 503, code: 'storage_unavailable' },
  ETIMEDOUT: { status: 503, code: 'storage_unavailable' },
  EMFILE: { status: 503, code: 'storage_unavailable' },
  ENFILE: { status: 503, code: 'storage_unavailable' },
  ENOMEM: { status: 503, code: 'storage_unavailable' },
  EUCLEAN: { status: 503, code: 'storage_unavailable' },
}

t.test('each error of the system has its code', needing('strace'), async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  await files.upload({ 'a.txt': 'a' })
  const calls = 'mkdir,mkdirat,rename,renameat,renameat2,link,linkat'
  for (const [errno, expected] of Object.entries(answers)) {
    await files.upload({ 'tree/b.txt': 'b' })
    const strace = await Strace.attach(t, server.process, `inject=${calls}:error=${errno}`)
    t.match((await files.post('mkdir', { path: 'new' }))[1], expected, `${errno}, mkdir`)
    t.match((await files.post('copy', { from: 'a.txt', to: 'c.txt' }))[1], expected, `${errno}, copy`)
    const deleted = (await files.post('delete', { paths: ['tree'], recursive: true }))[1]
    // It is what makes room again where there is none for a new name.
    const makesRoom = ['ENOSPC', 'EDQUOT'].includes(errno)
    // What is below a file is not there.
    const refused = errno === 'ENOTDIR' ? { missing: ['tree'] } : expected
    t.match(deleted, makesRoom ? { deleted: ['tree'] } : refused, `${errno}, delete`)
    await strace.detach()
    t.same(await readdir(files.mount), makesRoom ? ['a.txt'] : ['a.txt', 'tree'])
    t.same(await server.staged(), [])
    t.equal((await files.post('mkdir', { path: 'a.txt/b' }))[0], 409, 'the storage is not taken for away')
  }
  t.equal((await files.post('mkdir', { path: 'new' }))[0], 201)
  t.equal(server.lines().filter(({ code }) => code === 'internal_error').length, 0)
})

t.test('a directory that the service may not read, inside one that is deleted', needing('setpriv'), async (t) => {
  const env = { TRASH_RETENTION_SECONDS: '3600' }
  const server = await startServer(t, { env, through: withoutRoot })
  const detail = /^the storage denies access to d\/locked\/in$/
  const inFiles = { 'd/locked/a': '1', 'd/locked/in/b': '22', 'd/locked/z': '333', keep: '1' }
  const create = async (names: object = inFiles) => {
    const files = await server.files()
    await files.upload({ ...names })
    await chmod(join(files.mount, 'd/locked/in'), 0)
    return files
  }
  const left = { files: 2, bytes: 3 }

  const permanent = { paths: ['d/locked'], recursive: true, permanent: true }
  const files = await create()
  const [status, answer] = await files.post('delete', permanent)
  t.match([status, answer], [403, { code: 'entry_access_denied', detail, deleted: [] }])
  t.same(await readdir(join(files.mount, 'd/locked')), ['in'], 'what is denied is where it was')
  t.match(await files.usage(), left)
  t.same(await server.staged(), [])
  await chmod(join(files.mount, 'd/locked/in'), 0o755)
  t.match(await files.post('delete', permanent), [200, { deleted: ['d/locked'] }], 'once it is allowed')
  t.match(await files.usage(), { files: 1, bytes: 1 })

  const inBackground = await create()
  const [, { job }] = await inBackground.post('delete', { ...permanent, background: true })
  t.match(await ended(server, job.id), { state: 'failed', error: { code: 'entry_access_denied', detail } })
  t.match(await inBackground.usage(), left)

  const trashed = await create({ ...inFiles, other: '4444' })
  await trashed.post('delete', { paths: ['d/locked', 'other'], recursive: true })
  const emptyTrash = async () => ended(server, (await ask(server, 'DELETE', `/folders/${trashed.folder}/trash`)).job.id)
  t.match(await emptyTrash(), { state: 'failed', error: { code: 'entry_access_denied', detail } })
  await eventually(async () => (await trashed.usage()).files === 1)
  const trash = join(server.dataDir, 'volumes/default/trash')
  const inTrash = (await readdir(trash, { recursive: true })).filter((path) => /[0-9a-f]{12}\/in$/.test(path))
  for (const path of inTrash) await chmod(join(trash, path), 0o755)
  t.match(await emptyTrash(), { state: 'succeeded', result: { entries: 1, files: 0 } }, 'it was never counted')
  t.match(await trashed.usage(), { files: 1, bytes: 1 })

  await chmod(trashed.mount, 0o555)
  const closed = { code: 'entry_access_denied', detail: 'the storage denies access to keep' }
  t.match(await trashed.post('delete', { paths: ['keep'] }), [403, closed], 'its name in the trash is not told')
  await chmod(trashed.mount, 0o755)

  const deleted = await create()
  const { job: deletion } = await ask(server, 'DELETE', `/folders/${deleted.folder}?permanent=true`)
  const denied = { code: 'entry_access_denied', detail: /^the storage denies access to d\/locked\/in$/ }
  t.match(await ended(server, deletion.id), { state: 'failed', error: denied })
})
