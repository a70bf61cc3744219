import assert from 'node:assert/strict'
import { AlreadyExists, NotEmpty, NotFound } from '../errors.ts'
import { parsePath } from '../path.ts'
import { assertFails, type Cases, call } from './subject.ts'

export const directories: Cases = {
  'a directory is made with those that lead to it': async (subject) => {
    await subject.backend.mkdir(subject.folder, parsePath('a/b/c'), call)
    assert.deepEqual(await subject.keys(), ['a/', 'a/b/', 'a/b/c/'])
    for (const path of ['a', 'a/b', 'a/b/c']) {
      const { type, size } = await subject.stat(path)
      assert.deepEqual({ type, size }, { type: 'directory', size: 0 })
    }
  },

  'what is there already is not made': async (subject) => {
    await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
    await subject.write('dir/file', 'content')
    for (const path of ['empty', 'dir', 'dir/file']) {
      await assertFails(subject.backend.mkdir(subject.folder, parsePath(path), call), AlreadyExists)
    }
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file', 'empty/'])
    assert.equal(await subject.text('dir/file'), 'content')
  },

  'an empty directory stays, and takes files': async (subject) => {
    await subject.backend.mkdir(subject.folder, parsePath('dir'), call)
    await subject.write('dir/file', 'content')
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file'])
    await subject.backend.remove(subject.folder, parsePath('dir/file'), call)
    assert.deepEqual(await subject.keys(), ['dir/'], 'the directory that was made is still there')
  },
}

export const removals: Cases = {
  'a file is removed, and told what it was': async (subject) => {
    for (const path of ['file', 'file2', 'dir/file']) await subject.write(path, 'content')
    assert.deepEqual(await subject.backend.remove(subject.folder, parsePath('file'), call), { files: 1, bytes: 7 })
    await assertFails(subject.stat('file'), NotFound)
    await assertFails(subject.bytes('file'), NotFound)
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file', 'file2'])
  },

  'what is not there is not removed': async (subject) => {
    await subject.write('dir/file', 'content')
    for (const recursive of [false, true]) {
      for (const path of ['missing', 'dir/missing', 'di', 'missing/file']) {
        await assertFails(subject.backend.remove(subject.folder, parsePath(path), { ...call, recursive }), NotFound)
      }
    }
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file'])
  },

  'a directory that has entries is removed only recursively': async (subject) => {
    for (const path of ['dir/a', 'dir/sub/b', 'dir-x', 'dir.txt', 'dir0']) await subject.write(path, path)
    await subject.backend.mkdir(subject.folder, parsePath('dir/empty'), call)
    await assertFails(subject.backend.remove(subject.folder, parsePath('dir'), call), NotEmpty)
    await subject.backend.remove(subject.folder, parsePath('dir/empty'), call)
    const removed = await subject.backend.remove(subject.folder, parsePath('dir'), { ...call, recursive: true })
    assert.deepEqual(removed, { files: 2, bytes: 14 })
    assert.deepEqual(await subject.keys(), ['dir-x', 'dir.txt', 'dir0'])
    for (const path of ['dir', 'dir/a', 'dir/sub/b']) await assertFails(subject.stat(path), NotFound)
  },

  'an empty directory is removed either way': async (subject) => {
    for (const recursive of [false, true]) {
      await subject.backend.mkdir(subject.folder, parsePath('dir'), call)
      const options = { ...call, recursive }
      assert.deepEqual(await subject.backend.remove(subject.folder, parsePath('dir'), options), { files: 0, bytes: 0 })
      assert.deepEqual(await subject.keys(), [])
    }
  },

  'a file can be removed while it is read': async (subject) => {
    await subject.write('file', 'content')
    const file = await subject.backend.read(subject.folder, parsePath('file'), call)
    await subject.backend.remove(subject.folder, parsePath('file'), call)
    file.close()
    assert.deepEqual(await subject.keys(), [])
  },
}
