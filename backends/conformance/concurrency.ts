import assert from 'node:assert/strict'
import { SourceChanged, Unavailable } from '../errors.ts'
import { parsePath } from '../path.ts'
import { digest, MiB, sharedPattern } from './bytes.ts'
import { bytesOf, type Cases, call, type Subject } from './subject.ts'

/** Bytes of the versions of one file, each of which is filled with its own index. */
const versions = [1, 300_000, 70_001, 1_200_000, 0]

export const concurrency: Cases = {
  'readers see the old file or the new one while it is replaced': async (subject) => {
    const write = (version: number) => subject.write('file', Buffer.alloc(versions[version] ?? 0, version))
    await write(0)
    let writing = true
    const reader = async () => {
      let whole = 0
      while (writing || whole === 0) if (await readsWhole(subject)) whole++
    }
    const writer = async () => {
      for (let round = 1; round < 25; round++) await write(round % versions.length)
    }
    await Promise.all([
      writer().finally(() => {
        writing = false
      }),
      reader(),
      reader(),
      reader(),
    ])
  },

  'of several writers of one file the last one wins, whole': async (subject) => {
    const contents = Array.from({ length: 6 }, (_, index) =>
      sharedPattern(index % 2 === 0 ? 300_000 + index : 6 * MiB + index, `writer ${index}`),
    )
    await Promise.all(
      contents.map((content, index) => subject.write('file', content, index > 2 ? {} : { size: undefined })),
    )
    assert.ok(contents.map(digest).includes(digest(await subject.bytes('file'))), 'the file is that of one writer')
    assert.deepEqual(await subject.keys(), ['file'])
  },

  'a listing has each entry that stays, once, while others come and go': async (subject) => {
    const staying = Array.from({ length: 200 }, (_, index) => `stays-${String(index).padStart(3, '0')}`)
    await Promise.all(staying.map((path) => subject.write(path, '')))
    let listing = true
    const churn = async () => {
      for (let round = 0; listing; round++) {
        const path = `stays-${String(round % 200).padStart(3, '0')}-not`
        await subject.write(path, '')
        await subject.backend.remove(subject.folder, parsePath(path), call)
      }
    }
    const list = async () => {
      for (let round = 0; round < 5; round++) {
        const keys = await subject.keys()
        assert.deepEqual(
          keys.filter((key) => !key.endsWith('-not')),
          staying,
        )
      }
    }
    await Promise.all([
      churn(),
      list().finally(() => {
        listing = false
      }),
    ])
  },
}

/** Whether a version was read to its end; a storage that keeps no old versions may say that it changed meanwhile. */
async function readsWhole(subject: Subject): Promise<boolean> {
  const file = await subject.backend.read(subject.folder, parsePath('file'), call)
  const bytes = await bytesOf(file).catch((error) => {
    if (error instanceof Unavailable || error instanceof SourceChanged) return undefined
    throw error
  })
  if (bytes === undefined) return false
  const version = bytes[0] ?? versions.indexOf(0)
  assert.equal(bytes.length, file.entry.size, 'the entry is that of the bytes')
  assert.equal(bytes.length, versions[version], 'the file is whole')
  assert.ok(bytes.equals(Buffer.alloc(bytes.length, version)), 'the bytes are all of one version')
  return true
}
