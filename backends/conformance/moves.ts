import assert from 'node:assert/strict'
import { AlreadyExists, InvalidOperation, IsADirectory, NotADirectory, NotFound } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, MiB, sharedPattern } from './bytes.ts'
import { assertFails, type Cases, call, type Subject } from './subject.ts'

const overwrite = { overwrite: true }
const nothing = { files: 0, bytes: 0 }

export const moves: Cases = {
  'a file gets another name, with the directories that lead to it': async (subject) => {
    const bytes = sharedPattern(6 * MiB)
    await subject.write('from', bytes)
    assert.deepEqual(await move(subject, 'from', 'a/b/to'), nothing)
    assert.deepEqual(await subject.keys(), ['a/', 'a/b/', 'a/b/to'])
    assert.equal(digest(await subject.bytes('a/b/to')), digest(bytes))
    await assertFails(subject.stat('from'), NotFound)
  },

  'a directory moves with all that is in it, and nothing else': async (subject) => {
    for (const path of ['dir/a', 'dir/sub/b', 'dir-x', 'dir.txt', 'dir0']) await subject.write(path, path)
    await subject.backend.mkdir(subject.folder, parsePath('dir/empty'), call)
    assert.deepEqual(await move(subject, 'dir', 'new/place'), nothing)
    const moved = ['new/place/a', 'new/place/empty/', 'new/place/sub/', 'new/place/sub/b']
    assert.deepEqual(await subject.keys(), ['dir-x', 'dir.txt', 'dir0', 'new/', 'new/place/', ...moved])
    assert.equal(await subject.text('new/place/sub/b'), 'dir/sub/b')
  },

  'what is not there does not move': async (subject) => {
    await assertFails(move(subject, 'missing', 'to'), NotFound)
    await subject.write('dir/file', 'content')
    await assertFails(move(subject, 'dir/missing', 'to'), NotFound)
    await assertFails(move(subject, 'di', 'to', overwrite), NotFound)
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file'])
  },

  'nothing moves below a file, and what should have is where it was': async (subject) => {
    for (const path of ['file', 'from', 'dir/inside']) await subject.write(path, path)
    for (const options of [{}, overwrite]) {
      for (const from of ['from', 'dir']) await assertFails(move(subject, from, 'file/below', options), NotADirectory)
    }
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/inside', 'file', 'from'])
    for (const path of ['file', 'from', 'dir/inside']) assert.equal(await subject.text(path), path)
  },

  'a file replaces a file only with overwrite': async (subject) => {
    await subject.write('from', 'moved')
    await subject.write('to', 'replaced')
    await assertFails(move(subject, 'from', 'to'), AlreadyExists)
    assert.equal(await subject.text('to'), 'replaced')
    assert.equal(await subject.text('from'), 'moved')
    assert.deepEqual(await move(subject, 'from', 'to', overwrite), { files: 1, bytes: 8 })
    assert.deepEqual(await subject.keys(), ['to'])
    assert.equal(await subject.text('to'), 'moved')
    assert.deepEqual(await move(subject, 'to', 'free', overwrite), nothing, 'there may be nothing to overwrite')
  },

  'a directory is never replaced, and replaces nothing': async (subject) => {
    for (const path of ['dir/a', 'other/b', 'file']) await subject.write(path, path)
    await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
    const before = await subject.keys()
    for (const options of [{}, overwrite]) {
      for (const to of ['other', 'empty', 'file']) await assertFails(move(subject, 'dir', to, options), AlreadyExists)
      for (const to of ['other', 'empty']) {
        await assertFails(move(subject, 'file', to, options), AlreadyExists, IsADirectory)
      }
    }
    assert.deepEqual(await subject.keys(), before)
    assert.equal(await subject.text('file'), 'file')
  },

  'a directory does not move into itself': async (subject) => {
    await subject.write('dir/sub/file', 'content')
    for (const to of ['dir', 'dir/sub', 'dir/new', 'dir/sub/new/deep']) {
      for (const options of [{}, overwrite]) await assertFails(move(subject, 'dir', to, options), InvalidOperation)
    }
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/sub/', 'dir/sub/file'])
    await move(subject, 'dir', 'dir2')
    assert.deepEqual(await subject.keys(), ['dir2/', 'dir2/sub/', 'dir2/sub/file'])
  },

  'an entry moves into another vfolder': async (subject) => {
    const toFolder = await subject.newFolder()
    for (const path of ['file', 'dir/a', 'dir/sub/b']) await subject.write(path, path)
    await move(subject, 'file', 'file', { toFolder })
    await move(subject, 'dir', 'new/dir', { toFolder })
    assert.deepEqual(await subject.keys(), [])
    const moved = ['file', 'new/', 'new/dir/', 'new/dir/a', 'new/dir/sub/', 'new/dir/sub/b']
    assert.deepEqual(await subject.keys({ recursive: true }, toFolder), moved)
    assert.equal(await subject.text('new/dir/sub/b', toFolder), 'dir/sub/b')
    await subject.write('dir/x', 'of the same path')
    await move(subject, 'dir', 'dir/inside', { toFolder })
    assert.equal(await subject.text('dir/inside/x', toFolder), 'of the same path')
  },
}

function move({ backend, folder }: Subject, from: string, to: string, options = {}) {
  return backend.move(folder, parsePath(from), parsePath(to), { ...call, ...options })
}
