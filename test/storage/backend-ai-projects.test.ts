import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { inChunks } from '../../backends/conformance/bytes.ts'
import { parsePath } from '../../backends/path.ts'
import { posix } from '../../backends/posix/index.ts'
import { mountImage, run } from '../loop-image.ts'
import { call } from '../posix.ts'

// Backend.AI makes a project of a quota scope on XFS. Nothing gets into one by rename(2) or link(2), from wherever else.

t.test('scopes that are projects of XFS', async (t) => {
  const mountPoint = await mountImage(t, ['mkfs.xfs', '-q'], 400)
  const root = join(mountPoint, 'vfolders')
  const log = pino({ level: 'silent' })
  const backend = await posix.create({ options: { root, layout: 'backend-ai' }, log, idleSeconds: 240, ...call })
  const { folderOf, copy, copyTree, symlink, trash, clone, mount } = backend
  if (!folderOf || !copy || !copyTree || !symlink || !trash || !clone || !mount) return t.fail('it has all of these')

  /** A vfolder in a scope that is a project of its own. */
  async function createFolder(project: number): Promise<{ folder: string; path: string; scope: string }> {
    const folder = folderOf?.(randomUUID(), `user:${randomUUID()}`) ?? t.fail('it has a name')
    if (typeof folder !== 'string') throw new Error(folder.toString())
    await backend.createFolder(folder, call)
    const place = await mount?.(folder, undefined)
    const path = place?.type === 'path' ? place.path : ''
    const scope = join(path, '../../..')
    run('chattr', '-R', '-p', String(project), '+P', scope)
    return { folder, path, scope }
  }
  const write = (folder: string, path: string, bytes: number) =>
    backend.write(folder, parsePath(path), inChunks(Buffer.alloc(bytes, 'x')), call)
  const [one, other] = [await createFolder(42), await createFolder(43)]

  await t.test('all that is stored, copied and deleted stays in the project', async (t) => {
    for (const bytes of [5, 100_000, 7]) await write(one.folder, 'dir/file', bytes)
    const upload = randomUUID()
    await backend.beginUpload(one.folder, upload, call)
    await backend.appendUpload(one.folder, upload, inChunks(Buffer.from('uploaded')), { ...call, offset: 0 })
    await backend.completeUpload(one.folder, upload, parsePath('uploaded'), { ...call, size: 8 })
    await copy.call(backend, one.folder, parsePath('uploaded'), parsePath('dir/copy'), call)
    await copyTree.call(backend, one.folder, parsePath('dir'), parsePath('tree'), { ...call, admit: async () => {} })
    await symlink.call(backend, one.folder, parsePath('link'), 'uploaded', call)
    await backend.remove(one.folder, parsePath('tree'), { ...call, recursive: true })
    const place = trash.call(backend, one.folder)
    await backend.createFolder(place, call)
    await backend.move(one.folder, parsePath('dir'), parsePath('item'), { ...call, toFolder: place })
    await backend.move(place, parsePath('item'), parsePath('dir'), { ...call, toFolder: one.folder })
    t.equal(readFileSync(join(one.path, 'dir/copy'), 'utf8'), 'uploaded')
    const listed = run('lsattr', '-pR', one.scope).split('\n')
    t.same(
      listed.filter((line) => /^ *\d+ /.test(line) && !line.trim().startsWith('42 ')),
      [],
    )
  })

  await t.test('what is moved, or cloned, into another one belongs to that', async (t) => {
    await backend.move(one.folder, parsePath('dir'), parsePath('dir'), { ...call, toFolder: other.folder })
    await backend.move(one.folder, parsePath('uploaded'), parsePath('u'), { ...call, toFolder: other.folder })
    t.equal(readFileSync(join(other.path, 'u'), 'utf8'), 'uploaded')
    t.equal(readFileSync(join(other.path, 'dir/copy'), 'utf8'), 'uploaded')
    await write(one.folder, 'to/clone', 3)
    const third = await createFolder(44)
    await clone.call(backend, one.folder, third.folder, { ...call, onProgress() {}, onCheckpoint() {} })
    t.equal(readFileSync(join(third.path, 'to/clone'), 'utf8'), 'xxx')
    t.match(run('lsattr', '-p', join(other.path, 'u')), /^ *43 /)
    t.match(run('lsattr', '-p', join(third.path, 'to/clone')), /^ *44 /)
  })

  await backend.removeFolder(one.folder, call)
  t.same(run('find', one.scope, '-type', 'f'), '')
  await backend.close()
})
