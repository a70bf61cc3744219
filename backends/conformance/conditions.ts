import assert from 'node:assert/strict'
import { AlreadyExists, IsADirectory, PreconditionFailed } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, inChunks, MiB, sharedPattern } from './bytes.ts'
import { assertFails, type Cases, call, type Subject } from './subject.ts'

export const conditions: Cases = {
  'ifAbsent stores what is new and replaces nothing': async (subject) => {
    const { replaced } = await subject.write('file', 'first', { ifAbsent: true })
    assert.equal(replaced, undefined)
    await assertFails(subject.write('file', 'second', { ifAbsent: true }), AlreadyExists)
    await assertFails(subject.write('file', '', { ifAbsent: true }), AlreadyExists)
    await assertFails(subject.write('file', sharedPattern(9 * MiB), { ifAbsent: true, size: undefined }), AlreadyExists)
    assert.equal(await subject.text('file'), 'first')
  },

  'ifAbsent does not replace a directory either': async (subject) => {
    await subject.backend.mkdir(subject.folder, parsePath('dir'), call)
    await assertFails(subject.write('dir', 'content', { ifAbsent: true }), AlreadyExists, IsADirectory)
    assert.deepEqual(await subject.keys(), ['dir/'])
  },

  'of several writers with ifAbsent exactly one wins': async (subject) => {
    for (const [path, bytes] of [
      ['empty', 0],
      ['small', 1000],
      ['large', 9 * MiB],
    ] as const) {
      await assertOneWins(subject, path, bytes)
    }
  },

  'ifMatch replaces the file that has this etag, and no other': async (subject) => {
    const { etag } = (await subject.write('file', 'first')).entry
    await assertFails(subject.write('file', 'second', { ifMatch: 'another' }), PreconditionFailed)
    assert.equal(await subject.text('file'), 'first')
    if (etag === undefined) return
    const { entry } = await subject.write('file', 'second', { ifMatch: etag })
    assert.equal(await subject.text('file'), 'second')
    await assertFails(subject.write('file', 'third', { ifMatch: etag }), PreconditionFailed)
    await subject.write('file', 'third', { ifMatch: entry.etag })
    assert.equal(await subject.text('file'), 'third')
  },

  'ifMatch is not fulfilled by what is not there': async (subject) => {
    await assertFails(subject.write('dir/file', 'content', { ifMatch: 'any' }), PreconditionFailed)
    assert.equal((await subject.keys()).includes('dir/file'), false)
  },

  'other bytes have another etag': async (subject) => {
    const etags = new Set<string | undefined>()
    const contents = ['one', 'two', 'six', '', 'one more']
    for (const content of contents) etags.add((await subject.write('file', content)).entry.etag)
    if (etags.has(undefined)) assert.deepEqual([...etags], [undefined], 'either all files have an etag or none')
    else assert.equal(etags.size, contents.length)
  },

  'stat, list, read and write tell the same etag, without quotes': async (subject) => {
    const { etag } = (await subject.write('file', sharedPattern(9 * MiB), { size: undefined })).entry
    assert.doesNotMatch(etag ?? '', /["\s]/)
    assert.equal((await subject.stat('file')).etag, etag)
    assert.equal((await subject.entries())[0]?.etag, etag)
    const file = await subject.backend.read(subject.folder, parsePath('file'), call)
    file.close()
    assert.equal(file.entry.etag, etag)
  },

  'directories have no etag': async (subject) => {
    await subject.backend.mkdir(subject.folder, parsePath('dir'), call)
    assert.equal((await subject.stat('dir')).etag, undefined)
    assert.equal((await subject.entries())[0]?.etag, undefined)
  },
}

async function assertOneWins(subject: Subject, path: string, bytes: number): Promise<void> {
  const contents = Array.from({ length: bytes > MiB ? 3 : 8 }, (_, index) => sharedPattern(bytes, `writer ${index}`))
  const results = await Promise.allSettled(
    contents.map((content, index) => {
      const size = index % 2 === 0 ? content.length : undefined
      return subject.backend.write(subject.folder, parsePath(path), inChunks(content), {
        ...call,
        size,
        ifAbsent: true,
      })
    }),
  )
  const winners = contents.filter((_, index) => results[index]?.status === 'fulfilled')
  assert.equal(winners.length, 1, `${path}: exactly one writer wins`)
  for (const result of results) {
    if (result.status === 'rejected') await assertFails(Promise.reject(result.reason), AlreadyExists)
  }
  assert.equal(digest(await subject.bytes(path)), digest(winners[0] ?? Buffer.of()))
}
