import assert from 'node:assert/strict'
import { AlreadyExists, BackendError, IsADirectory, NotFound, OutsideFolder } from '../errors.ts'
import { parsePath } from '../path.ts'
import type { CasesWith } from './capabilities.ts'
import { assertFails, call } from './subject.ts'

export const symlink: CasesWith<'symlink'> = {
  'a symlink is stored as what it is': async (subject, backend) => {
    await subject.write('dir/file', 'content')
    const target = 'dir/파일'
    const { entry, replaced } = await backend.symlink(subject.folder, parsePath('a/link'), target, call)
    assert.equal(replaced, undefined)
    const listed = (await subject.entries({ path: 'a' }))[0]
    for (const told of [entry, await subject.stat('a/link'), listed]) {
      assert.equal(told?.path, 'a/link')
      assert.equal(told?.type, 'symlink')
      assert.equal(told?.size, Buffer.byteLength(target))
    }
    assert.equal((await subject.stat('a/link')).target, target)
    assert.equal(listed?.target, target)
  },

  'reading follows it as long as it stays inside': async (subject, backend) => {
    await subject.write('dir/file', 'content')
    await backend.symlink(subject.folder, parsePath('to-file'), 'dir/file', call)
    await backend.symlink(subject.folder, parsePath('dir/up'), '../to-file', call)
    await backend.symlink(subject.folder, parsePath('to-dir'), 'dir', call)
    for (const path of ['to-file', 'dir/up', 'to-dir/file']) assert.equal(await subject.text(path), 'content')
    await backend.symlink(subject.folder, parsePath('dangling'), 'missing', call)
    await assertFails(subject.text('dangling'), NotFound)
    await assertFails(subject.text('to-dir'), IsADirectory)
  },

  'a listing does not follow it': async (subject, backend) => {
    await subject.write('dir/file', 'content')
    await backend.symlink(subject.folder, parsePath('dir/loop'), '.', call)
    await backend.symlink(subject.folder, parsePath('to-dir'), 'dir', call)
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file', 'dir/loop', 'to-dir'])
  },

  'one that leads out is refused': async (subject, backend) => {
    const { folder } = subject
    const outside = '../'.repeat(30)
    for (const [path, target] of [
      ['absolute', '/etc/passwd'],
      ['relative', `${outside}etc/passwd`],
      ['dir/deep', `../${outside}etc/passwd`],
    ] as const) {
      await backend.symlink(folder, parsePath(path), target, call)
      await assertFails(subject.text(path), OutsideFolder)
    }
    for (const [path, target] of [
      ['root', '/'],
      ['up', outside],
    ] as const) {
      await backend.symlink(folder, parsePath(path), target, call)
      await assertFails(subject.text(`${path}/etc/passwd`), OutsideFolder)
      await assertFails(subject.stat(`${path}/etc/passwd`), OutsideFolder)
      await assertFails(subject.keys({ path: `${path}/etc` }), OutsideFolder)
      await assertFails(subject.write(`${path}/tmp/storage-proxy-conformance`, 'content'), OutsideFolder)
      await assertFails(backend.mkdir(folder, parsePath(`${path}/tmp/storage-proxy-conformance`), call), OutsideFolder)
      await assertFails(backend.move(folder, parsePath(`${path}/etc/passwd`), parsePath('stolen'), call), OutsideFolder)
      await assertFails(backend.remove(folder, parsePath(`${path}/tmp/storage-proxy-conformance`), call), OutsideFolder)
    }
    assert.equal((await subject.keys({})).includes('stolen'), false)
  },

  'one into another vfolder is refused': async (subject, backend) => {
    const other = await subject.newFolder()
    await backend.write(other, parsePath('file'), (async function* () {})(), { ...call, size: 0 })
    for (const up of ['..', '../..', '../../../..']) {
      await backend.symlink(subject.folder, parsePath('link'), `${up}/${other}/file`, call)
      await assertFails(subject.text('link'), OutsideFolder, NotFound)
    }
  },

  'a loop ends with an error': async (subject, backend) => {
    await backend.symlink(subject.folder, parsePath('a'), 'b', call)
    await backend.symlink(subject.folder, parsePath('b'), 'a', call)
    await assertFails(subject.text('a'), BackendError)
  },

  'the rules of write hold for it': async (subject, backend) => {
    const { folder } = subject
    await subject.write('file', 'content')
    await subject.write('dir/file', 'content')
    await assertFails(
      backend.symlink(folder, parsePath('file'), 'dir/file', { ...call, ifAbsent: true }),
      AlreadyExists,
    )
    await assertFails(backend.symlink(folder, parsePath('dir'), 'file', call), IsADirectory)
    assert.equal(await subject.text('file'), 'content')
    assert.equal((await backend.symlink(folder, parsePath('file'), 'dir/file', call)).replaced, 7)
    assert.equal((await subject.stat('file')).type, 'symlink')
    await assert.rejects(backend.symlink(folder, parsePath('new/link'), 'file', { signal: AbortSignal.abort() }))
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file', 'file'])
  },

  'writing, moving and removing concern the symlink, not what it leads to': async (subject, backend) => {
    const { folder } = subject
    await subject.write('file', 'content')
    const link = (path: string) => backend.symlink(folder, parsePath(path), 'file', call)
    await link('written')
    await subject.write('written', 'of its own')
    await link('removed')
    assert.deepEqual(await backend.remove(folder, parsePath('removed'), call), { files: 1, bytes: 0 })
    await link('moved')
    await backend.move(folder, parsePath('moved'), parsePath('dir/moved'), call)
    assert.equal((await subject.stat('dir/moved')).target, 'file')
    assert.equal(await subject.text('file'), 'content')
    assert.equal(await subject.text('written'), 'of its own')
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/moved', 'file', 'written'])
  },
}
