import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { BackendError, IsADirectory, NotADirectory, NotFound, SizeMismatch } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, inChunks, interruptHalfway, MiB, sharedPattern } from './bytes.ts'
import { assertFails, type Cases, call } from './subject.ts'

/** Crosses the part sizes that multipart uploads commonly have: 5, 8 and 16 MiB. */
const large = () => sharedPattern(17 * MiB + 3)

export const writes: Cases = {
  'a file is stored with the directories that lead to it': async (subject) => {
    const { entry, replaced } = await subject.write('a/b/file', 'content')
    assert.equal(replaced, undefined)
    assert.equal(entry.path, 'a/b/file')
    assert.equal(entry.type, 'file')
    assert.equal(entry.size, 7)
    assert.deepEqual(await subject.keys(), ['a/', 'a/b/', 'a/b/file'])
    assert.equal(await subject.text('a/b/file'), 'content')
  },

  'nothing is stored below a file': async (subject) => {
    await subject.write('file', 'content')
    for (const path of ['file/below', 'file/far/below']) {
      await assertFails(subject.write(path, 'more'), NotADirectory)
      await assertFails(subject.backend.mkdir(subject.folder, parsePath(path), call), NotADirectory)
    }
    assert.deepEqual(await subject.keys(), ['file'])
    assert.equal(await subject.text('file'), 'content')
  },

  'an empty file is stored, whether its size is known or not': async (subject) => {
    for (const size of [0, undefined]) {
      const { entry } = await subject.write(`size ${size}`, '', { size })
      assert.equal(entry.size, 0)
      assert.equal((await subject.bytes(`size ${size}`)).length, 0)
    }
  },

  'a file of many parts is stored, whether its size is known or not': async (subject) => {
    const bytes = large()
    for (const size of [bytes.length, undefined]) {
      const { entry } = await subject.write(`size ${size}`, bytes, { size })
      assert.equal(entry.size, bytes.length)
      assert.equal(digest(await subject.bytes(`size ${size}`)), digest(bytes))
    }
  },

  'the chunks may have any size': async (subject) => {
    const bytes = sharedPattern(6 * MiB)
    const chunks = [0, 1, 2, 65_538, 65_538, 5 * MiB, 5 * MiB, 6 * MiB]
    async function* source() {
      for (const [index, end] of chunks.slice(1).entries()) yield bytes.subarray(chunks[index], end)
    }
    await subject.backend.write(subject.folder, parsePath('file'), source(), { ...call })
    assert.equal(digest(await subject.bytes('file')), digest(bytes))
    for (const chunkBytes of [300_007, MiB]) {
      await subject.backend.write(subject.folder, parsePath('again'), inChunks(bytes, chunkBytes), { ...call })
      assert.equal(digest(await subject.bytes('again')), digest(bytes))
    }
  },

  'replacing a file tells how many bytes it had': async (subject) => {
    await subject.write('file', 'the first content')
    const { entry, replaced } = await subject.write('file', 'second')
    assert.equal(replaced, 17)
    assert.equal(entry.size, 6)
    assert.equal(await subject.text('file'), 'second')
    await subject.write('file', '')
    assert.equal((await subject.write('file', 'third')).replaced, 0, 'an empty file is replaced too')
  },

  'a directory is not replaced': async (subject) => {
    await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
    await subject.write('dir/file', 'content')
    for (const path of ['empty', 'dir']) await assertFails(subject.write(path, 'content'), IsADirectory)
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file', 'empty/'])
  },

  'a source that is shorter or longer than announced is refused': async (subject) => {
    await subject.write('old', 'old')
    for (const [bytes, size] of [
      [10, 11],
      [10, 9],
      [1, 0],
      [0, 1],
      [6 * MiB, 9 * MiB],
      [9 * MiB, 6 * MiB],
    ] as const) {
      for (const path of ['dir/new', 'old']) {
        await assertFails(subject.write(path, sharedPattern(bytes), { size }), SizeMismatch)
      }
    }
    assert.deepEqual(await subject.keys(), ['old'], 'nothing is visible')
    assert.equal(await subject.text('old'), 'old')
  },

  'a source that does not end is refused once it is longer than announced': async (subject) => {
    let ended = false
    async function* endless() {
      try {
        for (;;) yield Buffer.alloc(64 * 1024)
      } finally {
        ended = true
      }
    }
    await assertFails(
      subject.backend.write(subject.folder, parsePath('file'), endless(), { ...call, size: 100_000 }),
      SizeMismatch,
    )
    assert.ok(ended, 'the source was ended')
    assert.deepEqual(await subject.keys(), [])
  },

  'what the source throws is passed on, and nothing is visible': async (subject) => {
    await subject.write('old', 'old')
    const failure = new Error('the client is gone')
    for (const [bytes, size] of [
      [10, 10],
      [12 * MiB, 12 * MiB],
      [12 * MiB, undefined],
    ] as const) {
      for (const path of ['dir/new', 'old']) {
        const source = interruptHalfway(sharedPattern(bytes), () => {
          throw failure
        })
        const writing = subject.backend.write(subject.folder, parsePath(path), source, { ...call, size })
        await assert.rejects(writing, (error) => error === failure)
      }
    }
    assert.deepEqual(await subject.keys(), ['old'])
    assert.equal(await subject.text('old'), 'old')
  },

  'a write that fails leaves no garbage': async ({ backend, folder }) => {
    await backend.collectGarbage({ ...call, idleSeconds: 0 })
    for (const bytes of [10, 12 * MiB]) {
      const source = interruptHalfway(sharedPattern(bytes), () => {
        throw new Error('the client is gone')
      })
      await assert.rejects(backend.write(folder, parsePath('file'), source, { ...call }))
    }
    // Longer than the clock of any filesystem takes for a step.
    await sleep(50)
    assert.deepEqual(await backend.collectGarbage({ ...call, idleSeconds: 0 }), { files: 0, bytes: 0 })
  },

  'the mode and modification time are those that were asked for, where the storage keeps them': async (subject) => {
    const modifiedAt = new Date('2001-02-03T04:05:06Z')
    const { entry } = await subject.write('file', 'content', { mode: 0o640, modifiedAt })
    const stat = await subject.stat('file')
    for (const { mode, modifiedAt: time } of [entry, stat]) {
      if (mode !== undefined) assert.equal(mode, 0o640)
      const kept = time.getTime() === modifiedAt.getTime()
      assert.ok(kept || isRecent(time), `${time.toISOString()} is neither the time asked for nor that of the moment`)
    }
    assert.equal(stat.mode, entry.mode)
    assert.ok(isRecent((await subject.write('other', 'content')).entry.modifiedAt))
  },

  'several writers may create the directories that lead to their files at once': async (subject) => {
    const paths = Array.from({ length: 10 }, (_, index) => `a/b/c/${index}`)
    await Promise.all(paths.map((path) => subject.write(path, path)))
    assert.deepEqual(await subject.keys(), ['a/', 'a/b/', 'a/b/c/', ...paths])
    for (const path of paths) assert.equal(await subject.text(path), path)
  },

  'the old file stays open for a reader, or the reader is told': async (subject) => {
    const old = sharedPattern(3 * MiB, 'old')
    await subject.write('file', old)
    const file = await subject.backend.read(subject.folder, parsePath('file'), call)
    await subject.write('file', sharedPattern(3 * MiB, 'new'))
    try {
      const read = []
      for await (const chunk of file.chunks({ start: 0, end: old.length })) read.push(Buffer.from(chunk))
      assert.equal(digest(Buffer.concat(read)), digest(old))
    } catch (error) {
      if (!(error instanceof BackendError)) throw error
    } finally {
      file.close()
    }
  },

  'writing goes on while garbage is collected': async (subject) => {
    const bytes = sharedPattern(12 * MiB)
    const source = interruptHalfway(bytes, () => subject.backend.collectGarbage({ ...call, idleSeconds: 3600 }))
    await subject.backend.write(subject.folder, parsePath('file'), source, { ...call })
    assert.equal(digest(await subject.bytes('file')), digest(bytes))
  },

  'what is stored is no garbage': async (subject) => {
    await subject.write('dir/file', 'content')
    await subject.backend.mkdir(subject.folder, parsePath('empty'), call)
    await assertFails(
      subject.backend.write(subject.folder, parsePath('short'), inChunks(Buffer.alloc(10)), { ...call, size: 11 }),
      SizeMismatch,
    )
    const { files, bytes } = await subject.backend.collectGarbage({ ...call, idleSeconds: 3600 })
    assert.ok(files >= 0 && bytes >= 0)
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file', 'empty/'])
    await assert.rejects(subject.stat('short'), NotFound)
  },
}

/** By a clock that may be the storage's. */
function isRecent(time: Date): boolean {
  return Math.abs(time.getTime() - Date.now()) < 24 * 3600 * 1000
}
