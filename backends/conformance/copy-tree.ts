import assert from 'node:assert/strict'
import type { Amount, CopyTreeOptions } from '../backend.ts'
import { AlreadyExists, NotFound } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, MiB, sharedPattern } from './bytes.ts'
import type { CasesWith } from './capabilities.ts'
import { assertFails, call, type Subject } from './subject.ts'

const admitAll: CopyTreeOptions = { ...call, admit: async () => {} }

async function fill(subject: Subject): Promise<Buffer> {
  const large = sharedPattern(17 * MiB)
  await subject.write('dir/large', large)
  for (let index = 0; index < 50; index++) await subject.write(`dir/sub-${index % 5}/file-${index}`, `content ${index}`)
  await subject.backend.mkdir(subject.folder, parsePath('dir/empty'), call)
  await subject.write('dir beside', 'stays')
  return large
}

export const copyTree: CasesWith<'copyTree'> = {
  'a directory is copied with all that is in it': async (subject, backend) => {
    const large = await fill(subject)
    const { folder } = subject
    const inside = (await subject.keys({ path: 'dir', recursive: true })).map((key) => key.slice('dir'.length))
    const copied = await backend.copyTree(folder, parsePath('dir'), parsePath('a/b/copy'), admitAll)
    assert.equal(copied.files, 51)
    const there = (await subject.keys({ path: 'a/b/copy', recursive: true })).map((key) => key.slice('a/b/copy'.length))
    assert.deepEqual(there, inside)
    assert.equal(digest(await subject.bytes('a/b/copy/large')), digest(large))
    assert.equal(await subject.text('a/b/copy/sub-3/file-8'), 'content 8')
    await subject.write('dir/sub-3/file-8', 'changed')
    assert.equal(await subject.text('a/b/copy/sub-3/file-8'), 'content 8', 'the copy is on its own')
  },

  'into another vfolder': async (subject, backend) => {
    await fill(subject)
    const toFolder = await subject.newFolder()
    await backend.copyTree(subject.folder, parsePath('dir'), parsePath('copy'), { ...admitAll, toFolder })
    assert.equal(await subject.text('copy/sub-0/file-0', toFolder), 'content 0')
  },

  'nothing is replaced, and what does not exist is not copied': async (subject, backend) => {
    await fill(subject)
    const copy = (from: string, to: string) =>
      backend.copyTree(subject.folder, parsePath(from), parsePath(to), admitAll)
    await assertFails(copy('dir', 'dir beside'), AlreadyExists)
    await assertFails(copy('dir/empty', 'dir/sub-0'), AlreadyExists)
    await assertFails(copy('none', 'copy'), NotFound)
    assert.equal(await subject.text('dir beside'), 'stays')
  },

  'it appears as a whole, when it is admitted': async (subject, backend) => {
    await fill(subject)
    const before = await subject.keys({ recursive: true })
    const aborting = new AbortController()
    const refuse = async ({ files, bytes }: Amount) => {
      assert.deepEqual([files, bytes > 17 * MiB], [51, true])
      assert.deepEqual(await subject.keys({ recursive: true }), before, 'nothing is seen of it yet')
      throw new Error('no room')
    }
    const copy = (options: CopyTreeOptions) =>
      backend.copyTree(subject.folder, parsePath('dir'), parsePath('copy'), options)
    await assert.rejects(copy({ ...call, admit: refuse }), { message: 'no room' })
    await assert.rejects(copy({ ...admitAll, signal: AbortSignal.abort() }))
    await assert.rejects(copy({ signal: aborting.signal, admit: async () => aborting.abort(new Error('enough')) }))
    assert.deepEqual(await subject.keys({ recursive: true }), before)
    await copy(admitAll)
  },
}
