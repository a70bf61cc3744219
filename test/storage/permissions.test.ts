import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ended, type Files, formOf, startServer } from '../server.ts'
import { needing, withoutOwnership } from '../tools.ts'
import { signTus, tus } from '../tus.ts'

const isRoot = process.getuid?.() === 0
const small = 'new content'
const large = new Uint8Array(200_000).fill(7)
/** Users write under owners of their own only where they can be made. */
const foreign = isRoot ? { uid: 1234, gid: 5678 } : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }

function ownedAs(path: string) {
  const { uid, gid, mode } = lstatSync(path)
  return { uid, gid, mode: `0${(mode & 0o7777).toString(8)}` }
}

/** Each way of storing a file, by name. */
const ways: Record<string, (files: Files, path: string) => Promise<void>> = {
  'a small PUT': (files, path) => put(files, path, small),
  'a large PUT': (files, path) => put(files, path, large),
  async 'a form'(files, path) {
    const [directory, name] = [path.slice(0, path.lastIndexOf('/')), path.slice(path.lastIndexOf('/') + 1)]
    const url = `/folders/upload?folder=${files.folder}&path=${directory}`
    await files.server.ask('POST', url, formOf({ [name]: small }))
  },
  async tus(files, path) {
    const headers = { 'upload-length': String(small.length), 'content-type': 'application/offset+octet-stream' }
    const { status } = await tus('POST', await signTus(files, path), headers, small)
    if (status !== 201) throw new Error(`tus: ${status}`)
  },
  async 'a copy'(files, path) {
    writeFileSync(join(files.mount, 'source'), small)
    await files.post('copy', { from: 'source', to: path, overwrite: true })
  },
}

async function put({ server, folder }: Files, path: string, body: string | Uint8Array<ArrayBuffer>): Promise<void> {
  const url = await server.sign(folder, path, { operation: 'upload' })
  const response = await fetch(url, { method: 'PUT', body })
  if (response.status > 201) throw new Error(`${response.status} ${await response.text()}`)
}

t.test('permissions', async (t) => {
  const masked = ['sh', '-c', 'umask 077; exec "$@"', 'sh']
  const server = await startServer(t, { through: masked })
  const files = await server.files()

  await t.test('what replaces a file of another owner has its owner, group and mode', async (t) => {
    mkdirSync(join(files.mount, 'dir'))
    for (const [way, store] of Object.entries(ways)) {
      for (const mode of [0o600, 0o640, 0o777]) {
        const path = join(files.mount, 'dir/file')
        writeFileSync(path, 'old')
        chownSync(path, foreign.uid, foreign.gid)
        chmodSync(path, mode)
        const before = ownedAs(path)
        await store(files, 'dir/file')
        t.same(ownedAs(path), before, way)
        t.not(readFileSync(path, 'latin1'), 'old', `${way}: it is replaced`)
      }
    }
    t.same(await server.staged(), [])
  })

  await t.test('rights of the owner that a write takes away are not given again', async (t) => {
    const path = join(files.mount, 'setuid')
    writeFileSync(path, 'old')
    chmodSync(path, 0o6755)
    await put(files, 'setuid', small)
    t.equal(ownedAs(path).mode, '0755')
  })

  await t.test('in a directory that sets the group, new files and directories have it', async (t) => {
    const directory = join(files.mount, 'shared')
    mkdirSync(directory)
    chownSync(directory, -1, foreign.gid)
    chmodSync(directory, 0o2775)
    for (const [way, store] of Object.entries(ways)) {
      await store(files, `shared/${way}`)
      t.match(ownedAs(join(directory, way)), { gid: foreign.gid, mode: '0644' }, way)
    }
    await files.post('mkdir', { path: 'shared/made/deep' })
    await files.upload({ 'shared/on/the/way.txt': small })
    for (const path of ['made', 'made/deep', 'on', 'on/the']) {
      t.match(ownedAs(join(directory, path)), { gid: foreign.gid, mode: '02755' }, path)
    }
    t.match(ownedAs(join(directory, 'on/the/way.txt')), { gid: foreign.gid, mode: '0644' })
  })

  await t.test('the umask has no say', async (t) => {
    await files.upload({ 'plain/file': small })
    t.equal(ownedAs(join(files.mount, 'plain/file')).mode, '0644')
    t.equal(ownedAs(join(files.mount, 'plain')).mode, '0755')
  })

  await t.test('a copy is as executable as its source, and no more than that', async (t) => {
    writeFileSync(join(files.mount, 'script'), '#!/bin/sh')
    chownSync(join(files.mount, 'script'), foreign.uid, foreign.gid)
    chmodSync(join(files.mount, 'script'), 0o4751)
    await files.post('copy', { from: 'script', to: 'script-2' })
    const owner = { uid: process.getuid?.(), gid: process.getgid?.() }
    t.same(ownedAs(join(files.mount, 'script-2')), { ...owner, mode: '0751' })
  })

  await t.test('a move changes nothing, also over another file and into another vfolder', async (t) => {
    const other = await server.createFolder()
    const before = { ...foreign, mode: '0640' }
    const path = join(files.mount, 'moved')
    writeFileSync(path, small)
    chmodSync(path, 0o640)
    chownSync(path, foreign.uid, foreign.gid)
    writeFileSync(join(files.mount, 'target'), 'old')
    await files.post('move', { from: 'moved', to: 'target', overwrite: true })
    t.same(ownedAs(join(files.mount, 'target')), before)
    await files.post('move', { from: 'target', to: 'arrived', toFolder: other })
    t.same(ownedAs(join(await server.mountOf(other), 'arrived')), before)
  })

  await t.test('a copy of a directory and a clone keep owners and modes', async (t) => {
    const directory = join(files.mount, 'tree')
    mkdirSync(directory)
    writeFileSync(join(directory, 'file'), small)
    for (const [path, mode] of [
      [join(directory, 'file'), 0o640],
      [directory, 0o2750],
    ] as const) {
      chownSync(path, foreign.uid, foreign.gid)
      chmodSync(path, mode)
    }
    await files.post('copy', { from: 'tree', to: 'tree-2' })
    const { job, folder } = await server.ask('POST', `/folders/${files.folder}/clone`, {})
    await ended(server, job.id)
    for (const copy of [join(files.mount, 'tree-2'), join(await server.mountOf(folder.id), 'tree')]) {
      t.same(ownedAs(join(copy, 'file')), { ...foreign, mode: '0640' }, copy)
      t.same(ownedAs(copy), { ...foreign, mode: '02750' }, copy)
    }
  })
})

t.test('a service that may not give files away', needing('setpriv'), async (t) => {
  // Files of others exist for the tests of root only.
  const server = await startServer(t, { through: withoutOwnership })
  const files = await server.files()
  mkdirSync(join(files.mount, 'dir'))
  const path = join(files.mount, 'dir/file')
  const own = statSync(files.mount)
  for (const [way, store] of Object.entries(ways)) {
    writeFileSync(path, 'old')
    chmodSync(path, 0o674)
    chownSync(path, foreign.uid, foreign.gid)
    await store(files, 'dir/file')
    const isForeign = foreign.gid !== own.gid
    const kept = { uid: own.uid, gid: own.gid, mode: isForeign ? '0644' : '0674' }
    t.same(ownedAs(path), kept, `${way}: what was for a group is not for another one`)
  }
  t.same(await server.staged(), [])
})
