import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { NotFound, SourceChanged } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, MiB, sharedPattern } from './bytes.ts'
import type { CasesWith } from './capabilities.ts'
import { assertFails, call } from './subject.ts'

export const readMany: CasesWith<'readMany'> = {
  'whole files are read, in the order that is asked for': async (subject, backend) => {
    const sizes = { 'dir/large': 3 * MiB, empty: 0, 'dir/small': 1000, small: 70_000 }
    for (const [path, bytes] of Object.entries(sizes)) await subject.write(path, sharedPattern(bytes))
    const entries = await Promise.all(
      Object.keys(sizes).map((path) => backend.stat(subject.folder, parsePath(path), call)),
    )
    const { contents, close } = await backend.readMany(subject.folder, entries, call)
    assert.deepEqual(
      contents.map(digest),
      Object.values(sizes).map((bytes) => digest(sharedPattern(bytes))),
    )
    close()
    close()
  },

  'a file that is not what was listed is refused': async (subject, backend) => {
    await subject.write('same', 'content')
    await subject.write('other', 'content')
    const entries = await Promise.all(
      ['same', 'other'].map((path) => backend.stat(subject.folder, parsePath(path), call)),
    )
    await sleep(20) // The clock of a filesystem moves in steps.
    await subject.write('other', 'CONTENT')
    await assertFails(backend.readMany(subject.folder, entries, call), SourceChanged)
    await backend.remove(subject.folder, parsePath('other'), call)
    await assertFails(backend.readMany(subject.folder, entries, call), NotFound)
    await backend.mkdir(subject.folder, parsePath('other'), call)
    await assertFails(backend.readMany(subject.folder, entries, call), SourceChanged)
    const { contents, close } = await backend.readMany(subject.folder, entries.slice(0, 1), call)
    assert.equal(contents.join(), 'content')
    close()
  },

  'an aborted call rejects': async (subject, backend) => {
    await subject.write('file', 'content')
    const entry = await backend.stat(subject.folder, parsePath('file'), call)
    await assert.rejects(backend.readMany(subject.folder, [entry], { signal: AbortSignal.abort() }))
  },
}
