import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { parsePath } from '../path.ts'
import { digest, inChunks, interruptHalfway, MiB, sharedPattern } from './bytes.ts'
import { type Cases, call, readRange } from './subject.ts'

const aborted = { signal: AbortSignal.abort() }

export const aborts: Cases = {
  'a write that is aborted in the middle leaves nothing visible': async (subject) => {
    await subject.write('old', 'old')
    for (const [bytes, size] of [
      [10, 10],
      [12 * MiB, 12 * MiB],
      [12 * MiB, undefined],
    ] as const) {
      for (const path of ['dir/new', 'old']) {
        const controller = new AbortController()
        const source = interruptHalfway(sharedPattern(bytes), () => controller.abort())
        const { signal } = controller
        await assert.rejects(subject.backend.write(subject.folder, parsePath(path), source, { signal, size }))
        assert.ok((await source.next()).done, 'the source was ended')
      }
    }
    assert.deepEqual(await subject.keys(), ['old'])
    assert.equal(await subject.text('old'), 'old')
  },

  'a write that was aborted before leaves nothing visible': async (subject) => {
    await assert.rejects(subject.write('dir/file', 'content', aborted))
    await assert.rejects(subject.write('empty', '', aborted))
    assert.deepEqual(await subject.keys(), [])
  },

  'a read that is aborted in the middle does not give wrong bytes, and the next one is whole': async (subject) => {
    const bytes = sharedPattern(9 * MiB)
    await subject.write('file', bytes)
    const controller = new AbortController()
    const file = await subject.backend.read(subject.folder, parsePath('file'), { signal: controller.signal })
    const range = { start: 0, end: bytes.length }
    let read = 0
    try {
      for await (const chunk of file.chunks(range)) {
        assert.ok(chunk.equals(bytes.subarray(read, read + chunk.length)))
        read += chunk.length
        controller.abort()
      }
      assert.equal(read, bytes.length, 'a read that does not reject is whole')
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error
    } finally {
      file.close()
    }
    const again = await subject.backend.read(subject.folder, parsePath('file'), call)
    assert.equal(digest(await readRange(again, range)), digest(bytes))
    again.close()
  },

  'a listing that is aborted in the middle rejects': async (subject) => {
    const paths = Array.from({ length: 100 }, (_, index) => `dir/${String(index).padStart(3, '0')}`)
    await Promise.all(paths.map((path) => subject.write(path, '')))
    const controller = new AbortController()
    let listed = 0
    const list = async () => {
      const { signal } = controller
      for await (const _ of subject.backend.list(subject.folder, { path: parsePath('dir'), signal })) {
        if (++listed === 10) controller.abort()
      }
    }
    await assert.rejects(list())
    assert.equal(listed, 10)
    assert.equal((await subject.keys({ path: 'dir' })).length, 100)
  },

  'an upload that is not completed in time is still there': async (subject) => {
    const { backend, folder } = subject
    const upload = randomUUID()
    await backend.beginUpload(folder, upload, call)
    await backend.appendUpload(folder, upload, inChunks(Buffer.from('content')), { ...call, offset: 0 })
    await assert.rejects(backend.completeUpload(folder, upload, parsePath('dir/file'), { ...aborted, size: 7 }))
    assert.deepEqual(await subject.keys(), [])
    await backend.completeUpload(folder, upload, parsePath('dir/file'), { ...call, size: 7 })
    assert.equal(await subject.text('dir/file'), 'content')
  },

  'a change that was aborted before is not done, or done as a whole': async (subject) => {
    const { backend, folder } = subject
    for (const path of ['dir/a', 'dir/b']) await subject.write(path, path)
    const whole = ['dir/', 'dir/a', 'dir/b']
    const endsWhole = async (change: Promise<unknown>, before: string[], after: string[]) => {
      const done = await change.then(
        () => true,
        () => false,
      )
      assert.deepEqual(await subject.keys(), done ? after : before)
      return done
    }
    if (await endsWhole(backend.mkdir(folder, parsePath('new'), aborted), whole, [...whole, 'new/'])) {
      await backend.remove(folder, parsePath('new'), call)
    }
    if (
      await endsWhole(backend.move(folder, parsePath('dir/a'), parsePath('dir/c'), aborted), whole, [
        'dir/',
        'dir/b',
        'dir/c',
      ])
    ) {
      await backend.move(folder, parsePath('dir/c'), parsePath('dir/a'), call)
    }
    await endsWhole(backend.remove(folder, parsePath('dir/a'), aborted), whole, ['dir/', 'dir/b'])
  },
}
