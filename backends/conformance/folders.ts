import assert from 'node:assert/strict'
import { NotFound } from '../errors.ts'
import { parsePath } from '../path.ts'
import { type Cases, call, newName } from './subject.ts'

export const folders: Cases = {
  'a new one is empty': async (subject) => {
    assert.deepEqual(await subject.keys(), [])
  },

  'creating one that exists changes nothing': async (subject) => {
    await subject.write('dir/file', 'content')
    await subject.backend.createFolder(subject.folder, call)
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file'])
    assert.equal(await subject.text('dir/file'), 'content')
  },

  'several callers may create the same one at once': async (subject) => {
    const folder = await subject.newFolder()
    await subject.backend.removeFolder(folder, call)
    await Promise.all(Array.from({ length: 5 }, () => subject.backend.createFolder(folder, call)))
    assert.deepEqual(await subject.keys({}, folder), [])
  },

  'each has its own entries': async (subject) => {
    const other = await subject.newFolder()
    await subject.write('file', 'of the first')
    assert.deepEqual(await subject.keys({}, other), [])
    await assert.rejects(subject.text('file', other), NotFound)
  },

  'a removed one is gone, and the others stay': async (subject) => {
    const { backend } = subject
    const folder = await subject.newFolder()
    for (const path of ['a', 'dir/b', 'dir/sub/c']) {
      await backend.write(folder, parsePath(path), (async function* () {})(), { ...call, size: 0 })
    }
    await subject.write('file', 'stays')
    await backend.removeFolder(folder, call)
    for (const path of ['a', 'dir', 'dir/b']) {
      await assert.rejects(backend.stat(folder, parsePath(path), call), NotFound)
    }
    await backend.createFolder(folder, call)
    assert.deepEqual(await subject.keys({}, folder), [], 'made anew it is empty')
    assert.equal(await subject.text('file'), 'stays')
  },

  'removing one twice, or one that never was, succeeds': async ({ backend }) => {
    const folder = newName(backend)
    await backend.removeFolder(folder, call)
    await backend.createFolder(folder, call)
    await backend.removeFolder(folder, call)
    await backend.removeFolder(folder, call)
  },

  'another backend over the same storage sees the same': async (subject) => {
    await subject.write('dir/file', 'content')
    const other = await subject.reopen()
    const entry = await other.stat(subject.folder, parsePath('dir/file'), call)
    assert.deepEqual(entry, await subject.stat('dir/file'))
  },
}
