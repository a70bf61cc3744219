import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ended, startServer, temporaryDirectory } from '../server.ts'
import { signTus, tus } from '../tus.ts'

const user = 'user.origin'
const access = 'system.posix_acl_access'
const inherited = 'system.posix_acl_default'

/** An ACL as the kernel has it: the owner, a user, the owning group, the mask and all others (posix_acl_xattr.h). */
function acl(rights: { owner: number; guest: number; group: number; mask: number; others: number }): string {
  const none = 0xffffffff
  const entries = [
    [0x01, rights.owner, none],
    [0x02, rights.guest, 4321],
    [0x04, rights.group, none],
    [0x10, rights.mask, none],
    [0x20, rights.others, none],
  ] as const
  const bytes = Buffer.alloc(4 + 8 * entries.length)
  bytes.writeUInt32LE(2)
  for (const [index, [tag, perm, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * index)
    bytes.writeUInt16LE(perm, 6 + 8 * index)
    bytes.writeUInt32LE(id, 8 + 8 * index)
  }
  return `0x${bytes.toString('hex')}`
}

function set(path: string, name: string, value: string): void {
  execFileSync('setfattr', ['-n', name, '-v', value, path])
}

function get(path: string, name: string): string | undefined {
  try {
    const text = execFileSync('getfattr', ['--absolute-names', '-e', 'hex', '-n', name, path], { stdio: 'pipe' })
    return /=(0x\w+)/.exec(text.toString())?.[1]
  } catch {
    return undefined
  }
}

const team = acl({ owner: 7, guest: 7, group: 5, mask: 7, others: 0 })

t.test('a volume that keeps ACLs and extended attributes', async (t) => {
  const root = await temporaryDirectory(t)
  const env = { VOLUMES: JSON.stringify({ default: { backend: 'posix', root, extended: true } }) }
  const server = await startServer(t, { env })
  const files = await server.files()
  const at = (path: string) => join(files.mount, path)
  const store: Record<string, (path: string) => Promise<unknown>> = {
    async PUT(path) {
      const url = await server.sign(files.folder, path, { operation: 'upload' })
      await fetch(url, { method: 'PUT', body: 'new' })
    },
    async 'a large PUT'(path) {
      const url = await server.sign(files.folder, path, { operation: 'upload' })
      await fetch(url, { method: 'PUT', body: 'new'.repeat(50_000) })
    },
    async tus(path) {
      const headers = { 'upload-length': '3', 'content-type': 'application/offset+octet-stream' }
      await tus('POST', await signTus(files, path), headers, 'new')
    },
    async 'a copy'(path) {
      writeFileSync(at('source'), 'new')
      await files.post('copy', { from: 'source', to: path, overwrite: true })
    },
  }

  await t.test('a file that is replaced', async (t) => {
    const own = acl({ owner: 6, guest: 4, group: 0, mask: 4, others: 0 })
    for (const [way, put] of Object.entries(store)) {
      writeFileSync(at('file'), 'old')
      set(at('file'), user, '0x0a3d5c')
      set(at('file'), access, own)
      await put('file')
      t.match(readFileSync(at('file'), 'utf8'), /^new/, way)
      t.equal(get(at('file'), access), own, `${way}: its ACL`)
      t.equal(get(at('file'), user), '0x0a3d5c', `${way}: its attributes`)
      t.equal((statSync(at('file')).mode & 0o777).toString(8), '640', `${way}: the mask is that of the ACL`)
    }
  })

  await t.test('what is made in a directory with a default ACL', async (t) => {
    mkdirSync(at('team'))
    set(at('team'), inherited, team)
    for (const [way, put] of Object.entries(store)) {
      await put(`team/${way}`)
      const wanted = acl({ owner: 6, guest: 7, group: 5, mask: 6, others: 0 })
      t.equal(get(at(`team/${way}`), access), wanted, `${way}: as of a file that a program makes there`)
    }
    await files.post('mkdir', { path: 'team/made/deep' })
    await store.PUT!('team/on/the/way')
    for (const path of ['team/made', 'team/made/deep', 'team/on', 'team/on/the']) {
      t.same([get(at(path), inherited), get(at(path), access)], [team, team], path)
    }
  })

  await t.test('a copy of a directory and a clone', async (t) => {
    mkdirSync(at('tree/sub\\ directory'), { recursive: true })
    const own = acl({ owner: 6, guest: 4, group: 0, mask: 4, others: 0 })
    writeFileSync(at('tree/sub\\ directory/ä=\n.txt'), 'content')
    set(at('tree/sub\\ directory/ä=\n.txt'), access, own)
    set(at('tree/sub\\ directory/ä=\n.txt'), 'user.a=b', '0x01ff')
    set(at('tree'), inherited, team)
    set(at('tree/sub\\ directory'), user, '0x02')
    await files.post('copy', { from: 'tree', to: 'copied' })
    const { job, folder } = await server.ask('POST', `/folders/${files.folder}/clone`, {})
    await ended(server, job.id)
    for (const copy of [at('copied'), join(await server.mountOf(folder.id), 'tree')]) {
      t.equal(get(copy, inherited), team)
      t.equal(get(join(copy, 'sub\\ directory'), user), '0x02')
      const file = join(copy, 'sub\\ directory/ä=\n.txt')
      t.same([get(file, access), get(file, 'user.a=b')], [own, '0x01ff'])
      t.equal((statSync(file).mode & 0o777).toString(8), '640')
    }
    t.same(readdirSync(join(root, 'staging')), [])
  })

  await t.test('elsewhere nothing is made up', async (t) => {
    await files.upload({ 'plain/file': 'content' })
    t.same([get(at('plain/file'), access), get(at('plain/file'), user)], [undefined, undefined])
    t.equal((statSync(at('plain/file')).mode & 0o777).toString(8), '644')
    t.equal((statSync(at('plain')).mode & 0o777).toString(8), '755')
  })
})

t.test('without that neither is kept', async (t) => {
  const server = await startServer(t)
  const files = await server.files()
  const path = join(files.mount, 'file')
  writeFileSync(path, 'old')
  set(path, user, '0x01')
  await files.upload({ file: 'new' })
  t.equal(get(path, user), undefined)
})
