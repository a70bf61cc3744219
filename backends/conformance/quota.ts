import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Backend } from '../backend.ts'
import { NotFound, QuotaExceeded } from '../errors.ts'
import { parsePath } from '../path.ts'
import { inChunks, MiB } from './bytes.ts'
import type { CasesWith } from './capabilities.ts'
import { assertFails, call, type Subject } from './subject.ts'

// A storage counts in its own way: what is on its disks, what it keeps beside the files, and maybe only after a while.
// The bytes are random, since one that compresses would find little in others.

/** Over any delay and whatever is counted beside the files, so many MiB must be refused. */
const mostFiles = 100
const limit = 8 * MiB

export const usage: CasesWith<'usage'> = {
  'it follows what is stored and removed': async (subject, backend) => {
    const told = () => backend.usage(subject.folder, call)
    const before = await told()
    for (const name of ['a', 'b', 'c']) await subject.write(name, randomBytes(3 * MiB))
    await soon(backend, async () => {
      const { bytes, files } = await told()
      const growth = bytes - before.bytes
      assert.ok(growth > 4 * MiB && growth < 18 * MiB, `it grows by ${growth} bytes of 9 MiB`)
      if (files !== undefined) assert.equal(files - (before.files ?? 0), 3, 'files')
    })
    for (const name of ['a', 'b', 'c']) await backend.remove(subject.folder, parsePath(name), call)
    await soon(backend, async () => {
      const { bytes, files } = await told()
      assert.ok(bytes - before.bytes < 1 * MiB, `${bytes - before.bytes} bytes are left`)
      assert.equal(files, before.files)
    })
  },

  'each vfolder has its own': async (subject, backend) => {
    const other = await subject.newFolder()
    const before = await backend.usage(other, call)
    await subject.write('file', randomBytes(2 * MiB))
    await soon(backend, async () => assert.ok((await backend.usage(subject.folder, call)).bytes > MiB))
    assert.deepEqual(await backend.usage(other, call), before)
  },

  'a vfolder that is not there has none': async (_subject, backend) => {
    await assertFails(backend.usage(randomUUID(), call), NotFound)
  },
}

export const quota: CasesWith<'quota'> = {
  'what goes over a limit is refused, and nothing of it stays': async (subject, backend) => {
    const { folder } = subject
    await backend.quota(folder, { bytes: limit, files: null }, call)
    const written = await fill(subject)
    assert.deepEqual(await subject.keys(), written.toSorted())
    for (const path of written) assert.equal((await subject.stat(path)).size, MiB)
    const upload = randomUUID()
    const append = async () => {
      // Even an empty file may be too much.
      await backend.beginUpload(folder, upload, call)
      await backend.appendUpload(folder, upload, inChunks(randomBytes(4 * MiB)), { ...call, offset: 0 })
    }
    await assertFails(append(), QuotaExceeded)
    await backend.abortUpload(folder, upload, call)
    assert.deepEqual(await subject.keys(), written.toSorted())
  },

  'there is room again once something is removed, or the limit is raised or gone': async (subject, backend) => {
    const { folder } = subject
    await backend.quota(folder, { bytes: limit, files: null }, call)
    const written = await fill(subject)
    for (const path of written.slice(0, -1)) await backend.remove(folder, parsePath(path), call)
    await soon(backend, () => subject.write('again', randomBytes(MiB)))
    for (const bytes of [1, 100 * limit, null]) await backend.quota(folder, { bytes, files: null }, call)
    await soon(backend, () => subject.write('large', randomBytes(2 * limit)))
  },

  'a limit below the usage is kept, and leaves alone what is there': async (subject, backend) => {
    const { folder } = subject
    await subject.write('file', randomBytes(2 * MiB))
    for (let time = 0; time < 2; time++) await backend.quota(folder, { bytes: MiB, files: null }, call)
    await soon(backend, () => assertFails(subject.write('more', randomBytes(2 * MiB)), QuotaExceeded))
    assert.equal((await subject.bytes('file')).length, 2 * MiB)
    await backend.remove(folder, parsePath('file'), call)
  },

  'others are not limited by it': async (subject, backend) => {
    const other = await subject.newFolder()
    await backend.quota(other, { bytes: MiB, files: null }, call)
    await subject.write('file', randomBytes(4 * MiB))
    assert.equal((await subject.stat('file')).size, 4 * MiB)
  },

  'a vfolder that is not there has none': async (_subject, backend) => {
    await assertFails(backend.quota(randomUUID(), { bytes: MiB, files: null }, call), NotFound)
  },
}

/** Writes until the storage refuses it; @returns the files that it took */
async function fill(subject: Subject): Promise<string[]> {
  const written: string[] = []
  while (written.length < mostFiles) {
    const path = `file-${written.length}`
    try {
      await subject.write(path, randomBytes(MiB))
    } catch (error) {
      assert.ok(error instanceof QuotaExceeded, String(error))
      assert.ok(written.length > 0, 'some files fit')
      return written
    }
    written.push(path)
    if (written.length * MiB > limit) await sleep(200)
  }
  assert.fail(`${mostFiles} MiB go into a vfolder that may have ${limit / MiB}`)
}

/** Tries for as long as the storage may take to know. */
async function soon(backend: Backend, attempt: () => Promise<unknown>): Promise<void> {
  const { usageDelaySeconds = 0 } = backend.limits
  for (const end = Date.now() + usageDelaySeconds * 1000; ; await sleep(200)) {
    const late = Date.now() > end
    try {
      await attempt()
      return
    } catch (error) {
      if (late) throw error
    }
  }
}
