import assert from 'node:assert/strict'
import { IsADirectory, NotADirectory, NotFound } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, MiB, sharedPattern } from './bytes.ts'
import { assertFails, bytesOf, type Cases, call, readRange } from './subject.ts'

export const reads: Cases = {
  'what is not there is not found': async (subject) => {
    await subject.write('file', 'content')
    for (const path of ['missing', 'missing/file', 'fil', 'file2']) {
      await assertFails(subject.stat(path), NotFound)
      await assertFails(subject.bytes(path), NotFound)
    }
    await assertFails(subject.stat('file/below'), NotFound, NotADirectory)
    await assertFails(subject.bytes('file/below'), NotFound, NotADirectory)
  },

  'a directory cannot be read': async (subject) => {
    await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
    await subject.write('dir/file', 'content')
    for (const path of ['empty', 'dir']) await assertFails(subject.bytes(path), IsADirectory)
  },

  'stat tells what an entry is': async (subject) => {
    await subject.write('dir/file', 'content')
    const file = await subject.stat('dir/file')
    assert.equal(file.path, 'dir/file')
    assert.equal(file.type, 'file')
    assert.equal(file.size, 7)
    assert.ok(file.modifiedAt instanceof Date && !Number.isNaN(file.modifiedAt.getTime()))
    assert.equal(file.target, undefined)
    const directory = await subject.stat('dir')
    assert.equal(directory.path, 'dir')
    assert.equal(directory.type, 'directory')
    assert.equal(directory.size, 0)
  },

  'an open file tells the same as stat': async (subject) => {
    await subject.write('file', 'content')
    const file = await subject.backend.read(subject.folder, parsePath('file'), call)
    file.close()
    assert.deepEqual(file.entry, await subject.stat('file'))
  },

  'content: what comes with the opening is the file': async (subject) => {
    for (const bytes of [0, 1, 4096, 100_000]) {
      await subject.write('file', sharedPattern(bytes))
      const file = await subject.backend.read(subject.folder, parsePath('file'), call)
      if (file.content !== undefined) assert.equal(digest(file.content), digest(sharedPattern(bytes)))
      file.close()
    }
  },

  'ranges are exact': async (subject) => {
    const bytes = sharedPattern(17 * MiB + 3)
    await subject.write('file', bytes)
    const edges = [0, 1, 65_535, 65_536, 5 * MiB, 8 * MiB, 16 * MiB, bytes.length]
    const ranges = edges.flatMap((edge) => [
      { start: edge, end: edge },
      { start: Math.max(0, edge - 1), end: Math.min(edge + 1, bytes.length) },
      { start: Math.max(0, edge - 70_000), end: Math.min(edge + 70_000, bytes.length) },
    ])
    for (const range of ranges) {
      const file = await subject.backend.read(subject.folder, parsePath('file'), call)
      const expected = digest(bytes.subarray(range.start, range.end))
      assert.equal(digest(await bytesOf(file, range)), expected, `bytes ${range.start} to ${range.end}`)
    }
  },

  'one open file gives many ranges, also after one was not read to its end': async (subject) => {
    const bytes = sharedPattern(5 * MiB)
    await subject.write('file', bytes)
    const file = await subject.backend.read(subject.folder, parsePath('file'), call)
    try {
      for await (const chunk of file.chunks({ start: 0, end: bytes.length })) {
        assert.ok(chunk.length > 0)
        break
      }
      for (const [start, end] of [
        [4 * MiB, 5 * MiB],
        [0, 10],
        [3, 2 * MiB],
      ] as const) {
        assert.equal(digest(await readRange(file, { start, end })), digest(bytes.subarray(start, end)))
      }
    } finally {
      file.close()
    }
  },

  'several readers do not disturb each other': async (subject) => {
    const contents = ['a', 'b', 'c', 'd'].map((seed) => sharedPattern(3 * MiB, seed))
    for (const [index, content] of contents.entries()) await subject.write(`file ${index}`, content)
    const read = await Promise.all([0, 1, 2, 3, 0, 1].map((index) => subject.bytes(`file ${index}`)))
    assert.deepEqual(
      read.map(digest),
      [0, 1, 2, 3, 0, 1].map((index) => digest(contents[index] ?? Buffer.of())),
    )
  },

  'a file may be opened and closed unread': async (subject) => {
    await subject.write('file', sharedPattern(3 * MiB))
    for (let time = 0; time < 20; time++) (await subject.backend.read(subject.folder, parsePath('file'), call)).close()
    assert.equal((await subject.bytes('file')).length, 3 * MiB)
  },
}
