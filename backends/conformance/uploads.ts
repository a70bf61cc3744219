import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { Backend } from '../backend.ts'
import { AlreadyExists, IsADirectory, UploadNotFound } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, inChunks, interruptHalfway, MiB, sharedPattern } from './bytes.ts'
import { assertFails, bytesOf, type Cases, call, type Subject } from './subject.ts'

export const uploads: Cases = {
  'an upload in pieces becomes a file': async (subject) => {
    const upload = await begin(subject)
    const bytes = sharedPattern(100_000)
    await append(subject, upload, bytes, [0, 1, 40_000, 40_000, 99_999, 100_000])
    assert.deepEqual(await subject.keys(), [], 'nothing is visible before')
    const { entry, replaced } = await complete(subject, upload, 'dir/file', bytes.length)
    assert.equal(replaced, undefined)
    assert.equal(entry.path, 'dir/file')
    assert.equal(entry.size, bytes.length)
    assert.equal(digest(await subject.bytes('dir/file')), digest(bytes))
    assert.deepEqual(await subject.keys(), ['dir/', 'dir/file'])
  },

  'an upload goes on in another backend over the same storage': async (subject) => {
    const upload = await begin(subject)
    const bytes = sharedPattern(18 * MiB + 5)
    // Below, at and above the smallest part that S3 takes, 5 MiB.
    const edges = [0, 3, 2 * MiB, 7 * MiB, 7 * MiB + 1, 12 * MiB + 1, 18 * MiB, bytes.length]
    for (const [index, end] of edges.slice(1).entries()) {
      const backend = await subject.reopen()
      await append(subject, upload, bytes, [edges[index] ?? 0, end], backend)
    }
    const last = await subject.reopen()
    const options = { ...call, size: bytes.length }
    await last.completeUpload(subject.folder, upload, parsePath('file'), options)
    assert.equal(digest(await subject.bytes('file')), digest(bytes))
  },

  'the bytes so far can be read': async (subject) => {
    const upload = await begin(subject)
    assert.equal((await readUpload(subject, upload)).length, 0)
    const bytes = sharedPattern(11 * MiB)
    for (const [start, end] of [
      [0, 10],
      [10, 6 * MiB],
      [6 * MiB, 11 * MiB],
    ] as const) {
      await append(subject, upload, bytes, [start, end])
      assert.equal(digest(await readUpload(subject, upload)), digest(bytes.subarray(0, end)))
    }
    const file = await subject.backend.readUpload(subject.folder, upload, call)
    const range = { start: 6 * MiB - 3, end: 6 * MiB + 3 }
    assert.deepEqual(await bytesOf(file, range), bytes.subarray(range.start, range.end))
    await subject.backend.abortUpload(subject.folder, upload, call)
  },

  'what is behind the offset is replaced': async (subject) => {
    const upload = await begin(subject)
    await append(subject, upload, sharedPattern(7 * MiB, 'first'), [0, 7 * MiB])
    const bytes = Buffer.concat([sharedPattern(6 * MiB, 'first'), sharedPattern(1000, 'second')])
    await append(subject, upload, bytes, [6 * MiB, bytes.length])
    assert.equal(digest(await readUpload(subject, upload)), digest(bytes))
    await complete(subject, upload, 'file', bytes.length)
    assert.equal(digest(await subject.bytes('file')), digest(bytes))
  },

  'an append that fails keeps what was there before': async (subject) => {
    for (const first of [1000, 6 * MiB]) {
      const upload = await begin(subject)
      const bytes = sharedPattern(first + 8 * MiB)
      await append(subject, upload, bytes, [0, first])
      const failure = new Error('the client is gone')
      const source = interruptHalfway(bytes.subarray(first), () => {
        throw failure
      })
      let durable = first
      const onDurable = (offset: number) => {
        assert.ok(offset > durable)
        durable = offset
      }
      const options = { ...call, offset: first, onDurable }
      const appending = subject.backend.appendUpload(subject.folder, upload, source, options)
      await assert.rejects(appending, (error) => error === failure)
      const backend = await subject.reopen()
      const kept = await readUpload(subject, upload)
      assert.equal(digest(kept.subarray(0, durable)), digest(bytes.subarray(0, durable)))
      await append(subject, upload, bytes, [first, bytes.length], backend)
      await complete(subject, upload, `file ${first}`, bytes.length)
      assert.equal(digest(await subject.bytes(`file ${first}`)), digest(bytes))
    }
  },

  'an aborted append keeps what was there before': async (subject) => {
    const upload = await begin(subject)
    const bytes = sharedPattern(9 * MiB)
    await append(subject, upload, bytes, [0, MiB])
    const controller = new AbortController()
    const source = interruptHalfway(bytes.subarray(MiB), () => controller.abort())
    const options = { signal: controller.signal, offset: MiB }
    await assert.rejects(subject.backend.appendUpload(subject.folder, upload, source, options))
    await append(subject, upload, bytes, [MiB, bytes.length])
    await complete(subject, upload, 'file', bytes.length)
    assert.equal(digest(await subject.bytes('file')), digest(bytes))
  },

  'an upload without bytes becomes an empty file': async (subject) => {
    const upload = await begin(subject)
    assert.equal((await complete(subject, upload, 'file', 0)).entry.size, 0)
    assert.equal((await subject.bytes('file')).length, 0)
  },

  'only the first bytes may be asked for': async (subject) => {
    for (const [stored, size] of [
      [1000, 999],
      [1000, 0],
      [12 * MiB, 6 * MiB + 1],
    ] as const) {
      const upload = await begin(subject)
      const bytes = sharedPattern(stored)
      await append(subject, upload, bytes, [0, stored])
      await complete(subject, upload, 'file', size)
      assert.equal(digest(await subject.bytes('file')), digest(bytes.subarray(0, size)))
    }
  },

  'beginning twice is beginning once': async (subject) => {
    const upload = await begin(subject)
    await append(subject, upload, Buffer.from('content'), [0, 7])
    await subject.backend.beginUpload(subject.folder, upload, call)
    assert.equal((await readUpload(subject, upload)).toString(), 'content')
    await complete(subject, upload, 'file', 7)
    assert.equal(await subject.text('file'), 'content')
  },

  'uploads do not mix': async (subject) => {
    const contents = [sharedPattern(6 * MiB, 'a'), sharedPattern(6 * MiB + 1, 'b'), sharedPattern(10, 'c')]
    const started = await Promise.all(contents.map(async (bytes) => ({ bytes, upload: await begin(subject) })))
    await Promise.all(started.map(({ bytes, upload }) => append(subject, upload, bytes, [0, bytes.length])))
    await Promise.all(
      started.map(({ bytes, upload }, index) => complete(subject, upload, `file ${index}`, bytes.length)),
    )
    for (const [index, bytes] of contents.entries()) {
      assert.equal(digest(await subject.bytes(`file ${index}`)), digest(bytes))
    }
  },

  'completing replaces a file, unless ifAbsent says not to': async (subject) => {
    await subject.write('file', 'the old one')
    const upload = await begin(subject)
    await append(subject, upload, Buffer.from('new'), [0, 3])
    await assertFails(complete(subject, upload, 'file', 3, { ifAbsent: true }), AlreadyExists)
    assert.equal(await subject.text('file'), 'the old one')
    assert.equal((await readUpload(subject, upload)).toString(), 'new', 'the upload is still there')
    assert.equal((await complete(subject, upload, 'file', 3)).replaced, 11)
    assert.equal(await subject.text('file'), 'new')
  },

  'completing does not replace a directory': async (subject) => {
    await subject.write('dir/file', 'content')
    const upload = await begin(subject)
    await append(subject, upload, Buffer.from('new'), [0, 3])
    await assertFails(complete(subject, upload, 'dir', 3), IsADirectory)
    await complete(subject, upload, 'elsewhere', 3)
    assert.equal(await subject.text('elsewhere'), 'new')
    assert.equal(await subject.text('dir/file'), 'content')
  },

  'a completed upload is forgotten': async (subject) => {
    const upload = await begin(subject)
    await append(subject, upload, Buffer.from('content'), [0, 7])
    await complete(subject, upload, 'file', 7)
    await assertForgotten(subject, upload)
    await subject.backend.abortUpload(subject.folder, upload, call)
    assert.equal(await subject.text('file'), 'content', 'aborting it then changes nothing')
  },

  'an aborted upload is forgotten, and aborting twice succeeds': async (subject) => {
    const upload = await begin(subject)
    await append(subject, upload, sharedPattern(6 * MiB), [0, 6 * MiB])
    await subject.backend.abortUpload(subject.folder, upload, call)
    await assertForgotten(subject, upload)
    await subject.backend.abortUpload(subject.folder, upload, call)
    await subject.backend.abortUpload(subject.folder, randomUUID(), call)
    assert.deepEqual(await subject.keys(), [])
  },

  'a live upload is no garbage, however long it rests': async (subject) => {
    const upload = await begin(subject)
    const bytes = sharedPattern(7 * MiB)
    await append(subject, upload, bytes, [0, 6 * MiB])
    const backend = await subject.reopen()
    await backend.collectGarbage({ ...call, idleSeconds: 0 })
    await append(subject, upload, bytes, [6 * MiB, 7 * MiB])
    await backend.collectGarbage({ ...call, idleSeconds: 0 })
    await complete(subject, upload, 'file', bytes.length)
    assert.equal(digest(await subject.bytes('file')), digest(bytes))
  },
}

async function begin({ backend, folder }: Subject): Promise<string> {
  const upload = randomUUID()
  await backend.beginUpload(folder, upload, call)
  return upload
}

/** Appends the pieces of `bytes` between the edges, one call each. */
async function append(
  { backend, folder }: Subject,
  upload: string,
  bytes: Buffer,
  edges: number[],
  by: Backend = backend,
): Promise<void> {
  for (const [index, end] of edges.slice(1).entries()) {
    const offset = edges[index] ?? 0
    const source = inChunks(bytes.subarray(offset, end))
    assert.equal(await by.appendUpload(folder, upload, source, { ...call, offset }), end)
  }
}

function complete({ backend, folder }: Subject, upload: string, path: string, size: number, more = {}) {
  return backend.completeUpload(folder, upload, parsePath(path), { ...call, size, ...more })
}

async function readUpload({ backend, folder }: Subject, upload: string): Promise<Buffer> {
  return bytesOf(await backend.readUpload(folder, upload, call))
}

async function assertForgotten(subject: Subject, upload: string): Promise<void> {
  const { backend, folder } = subject
  const source = inChunks(Buffer.from('more'))
  await assertFails(backend.appendUpload(folder, upload, source, { ...call, offset: 0 }), UploadNotFound)
  await assertFails(backend.readUpload(folder, upload, call), UploadNotFound)
  await assertFails(complete(subject, upload, 'again', 0), UploadNotFound)
}
